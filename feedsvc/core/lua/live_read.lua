-- include: clock live
-- Reads live logs, each after an entry, which must still be there: else something is missing.
-- KEYS  the tags of the logs' shards
-- ARGV  how many entries of a log and of all, about how many bytes of bodies, then for each log: name, entry id
-- Returns for each {entry id, kind, what, route if it is followed still or '' (of a
--         removed one whose it was: actor, NUL, external id), ...} flat, 'lost', or 'later' if there
--         were too many before; then {activity id, frame or '', ...} of those that were added, of as many as the bytes
--         allow; of none where other shards are on other nodes. Reading keeps the logs written.
local most, left, room = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local function read(name, after)
  if left <= 0 then return 'later' end
  local deadline = leased(name)
  if not deadline then return 'lost' end
  local found = redis.call('XRANGE', cache_key(LOG, name), after, '+', 'COUNT', most + 1)
  if not found[1] or found[1][1] ~= after then return 'lost' end
  if deadline - clock_us() / 1000 < LEASE_MS * 3 / 4 then log_renew(name) end
  local flat, followed = {}, {}
  for i = 2, #found do
    local kind, what, _, route = unpack(found[i][2])
    route = route or ''
    if kind == 'a' and route ~= '' and route ~= name then
      if followed[route] == nil then followed[route] = redis.call('HEXISTS', key(EDGES, name), route) == 1 end
      if not followed[route] then route = '' end
    end
    flat[#flat + 1], flat[#flat + 2], flat[#flat + 3], flat[#flat + 4] = found[i][1], kind, what, route
  end
  left = left - #found + 1
  return flat
end

-- The bodies of what was added to some logs, each once. 10^10 is a multiple of 256.
local function bodies_of(logs)
  local tags, bodies, known = TAGS, {}, {}
  for _, log in ipairs(logs) do
    for i = 2, type(log) == 'table' and #log or 0, 4 do
      local id = log[i + 1]
      if room <= 0 then return bodies end
      if log[i] == 'a' and not known[id] then
        use(tags[tonumber(id:sub(-10)) % 256 + 1])
        local frame = redis.call('GET', key(ACTIVITY, id)) or ''
        known[id], room = true, room - #frame
        bodies[#bodies + 1], bodies[#bodies + 2] = id, frame
      end
    end
  end
  return bodies
end

local results = {}
for i = 1, #KEYS do
  use(KEYS[i])
  results[i] = read(ARGV[2 + 2 * i], ARGV[3 + 2 * i])
end
results[#KEYS + 1] = ONE_NODE and bodies_of(results) or {}
return results

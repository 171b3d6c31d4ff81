-- include: clock ids live
-- Read live logs, each after an entry. If the entry is gone, entries after it may be gone too.
-- Reading renews the leases of the logs.
-- KEYS  the tags of the logs' shards
-- ARGV  most entries of a log, most entries of all logs, bytes of bodies after which the script
--       reads no further body, then for each log: name, position of the entry
-- Returns for each log 'lost', 'later' if the logs before it had too many entries, or {position,
--         kind, subject, route, ...}. The route of an added activity is '' if the user does not
--         follow that entity any more; the route of a removed activity is its actor, NUL and its
--         external id;
--         then {activity id, frame or '', ...} of added activities, as many as the bytes allow;
--         none where other shards are on other nodes
-- Repeat: reads, and renews leases.
local max_of_log, max_entries, max_bytes = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local LOGS_FROM, FIELDS = 4, 2

-- Return the route of an added activity, or '' if the user does not follow that entity any more.
local function followed_route(user, route, follows)
  if route == '' or route == user then return route end
  if follows[route] == nil then
    follows[route] = redis.call('HEXISTS', key(EDGES, user), route) == 1
  end
  return follows[route] and route or ''
end

local function read(name, after)
  if max_entries <= 0 then return 'later' end
  local deadline = leased(name)
  if not deadline then return 'lost' end
  local entries = redis.call('XRANGE', cache_key(LOG, name), after, '+', 'COUNT', max_of_log + 1)
  if not entries[1] or entries[1][1] ~= after then return 'lost' end
  if deadline - clock_us() / 1000 < LOG_LEASE_MS * 3 / 4 then lease_renew(name) end
  local fields, follows = {}, {}
  for i = 2, #entries do
    local position = entries[i][1]
    local kind, subject, _, route = unpack(entries[i][2])
    route = route or ''
    if kind == 'a' then route = followed_route(name, route, follows) end
    local last = #fields
    fields[last + 1], fields[last + 2] = position, kind
    fields[last + 3], fields[last + 4] = subject, route
  end
  max_entries = max_entries - #entries + 1
  return fields
end

-- Return the bodies of the activities that were added to some logs, each once.
local function bodies_of(logs)
  local tags, bodies, is_read = TAGS, {}, {}
  for _, log in ipairs(logs) do
    for i = 2, type(log) == 'table' and #log or 0, 4 do
      local kind, id = log[i], log[i + 1]
      if max_bytes <= 0 then return bodies end
      if kind == 'a' and not is_read[id] then
        use(tags[id_shard(id) + 1])
        local frame = redis.call('GET', key(ACTIVITY, id)) or ''
        is_read[id], max_bytes = true, max_bytes - #frame
        bodies[#bodies + 1], bodies[#bodies + 2] = id, frame
      end
    end
  end
  return bodies
end

local results = {}
for i, tag in ipairs(KEYS) do
  use(tag)
  local first = LOGS_FROM + FIELDS * (i - 1)
  results[i] = read(ARGV[first], ARGV[first + 1])
end
results[#KEYS + 1] = ONE_NODE and bodies_of(results) or {}
return results

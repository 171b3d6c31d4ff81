-- A packed list is [floor, id, id, ...], ascending: complete for ids above the floor, and only there. The floor
-- is '0' or an id. A feed that is being built has '!nonce' there, which sorts below every id, so that whatever
-- is delivered meanwhile lands. Ids have 19 digits: strings compare as numbers.
local COLD, ADDED, PRESENT, BELOW = 0, 1, 2, 3
local FAR = 40
local MARKER = 33 -- the byte of '!'

-- Keeps the newest `keep` ids; the next older one becomes the floor. A list that is being built may not lose its
-- marker: it is given up instead, and the feed stays cold. Returns how many ids the list lets go.
local function packed_trim(list, keep)
  if redis.call('LINDEX', list, 0):byte() == MARKER then
    redis.call('DEL', list)
    return 0
  end
  local over = redis.call('LLEN', list) - 1 - keep
  redis.call('LTRIM', list, -(keep + 1), -1)
  return over
end

-- The index of the first element that is >= id, given list[low] < id <= list[high].
local function packed_place(list, id, low, high)
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if redis.call('LINDEX', list, middle) < id then low = middle else high = middle end
  end
  return high
end

-- Inserts an id in its place, once. Trims to `keep` ids when there are more than `most`. Returns what happened, what it
-- cost in units of an append (FAR, if the place was not near the end), how long the list was when the id was added, and
-- how many ids were trimmed, if any. Indexes are texts: the store makes a text of each number that it is given, which
-- takes Redis longer than the command.
local function packed_insert(list, id, keep, most)
  local tail = redis.call('LINDEX', list, '-1')
  if not tail then return COLD, 1 end
  if tail < id then
    local length = redis.call('RPUSH', list, id)
    if length > most + 1 then return ADDED, 1, length, packed_trim(list, keep) end
    return ADDED, 1, length
  end
  if tail == id then return PRESENT, 1 end
  local length, cost
  local near = redis.call('LRANGE', list, '-3', '-1')
  if #near == 3 and near[1] >= id then near = redis.call('LRANGE', list, '-9', '-1') end
  if near[1] < id then
    local place = #near
    while near[place - 1] >= id do place = place - 1 end
    if near[place] == id then return PRESENT, 4 end
    redis.call('RPOP', list, #near - place + 1)
    length, cost = redis.call('RPUSH', list, id, unpack(near, place)), 6
  else
    if redis.call('LINDEX', list, 0) >= id then return BELOW, 4 end
    local place = packed_place(list, id, 0, redis.call('LLEN', list) - 1)
    local above = redis.call('LINDEX', list, place)
    if above == id then return PRESENT, 20 end
    length, cost = redis.call('LINSERT', list, 'BEFORE', above, id), FAR
  end
  if length > most + 1 then return ADDED, cost, length, packed_trim(list, keep) end
  return ADDED, cost, length
end

-- The same for an id that is greater than all that any list holds.
local function packed_append_newest(list, id, keep, most)
  local length = redis.call('RPUSHX', list, id)
  if length == 0 then return COLD, 1 end
  if length > most + 1 then return ADDED, 1, length, packed_trim(list, keep) end
  return ADDED, 1, length
end

-- Appends many ids: unpack() is bounded by Lua's stack.
local function packed_append(list, ids)
  for first = 1, #ids, 512 do
    redis.call('RPUSH', list, unpack(ids, first, math.min(first + 511, #ids)))
  end
end

-- The arguments from the first on: unpack() would not do for thousands of them.
local function arguments(first)
  local list = {}
  for i = first, #ARGV do list[#list + 1] = ARGV[i] end
  return list
end

-- Two ascending lists as one, without repeats, and only what is above the floor.
local function packed_merge(a, b, floor)
  local merged, i, j = {}, 1, 1
  while a[i] or b[j] do
    local id
    if not b[j] or (a[i] and a[i] <= b[j]) then
      id, i = a[i], i + 1
    else
      id, j = b[j], j + 1
    end
    if id > floor and id ~= merged[#merged] then merged[#merged + 1] = id end
  end
  return merged
end

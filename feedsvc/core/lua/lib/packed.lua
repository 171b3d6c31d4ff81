-- include: arrays
-- A packed list is [floor, id, id, ...], ascending. The list is complete for ids above the floor,
-- and only there. The floor is '0' or an id. A feed that is being built has '!nonce' as its floor,
-- which sorts below every id, so that the list takes every delivery meanwhile. Ids have 19 digits:
-- their texts compare as their numbers do.
local COLD, ADDED, PRESENT, BELOW = 0, 1, 2, 3
local FAR = 40 -- the cost of an insertion that is not near the end, in units of an append
local MARKER = 33 -- the byte of '!'

-- Return the state of the list that begins with `head`: cold, building or warm.
local function packed_state(head)
  return not head and 'cold' or head:byte() == MARKER and 'building' or 'warm'
end

-- Keep the newest `cap` ids; the next older id becomes the floor. A list that is being built must
-- not lose its marker: the list is deleted instead, and the feed stays cold. Return the number of
-- ids that the list trims.
local function packed_trim(list, cap)
  if redis.call('LINDEX', list, 0):byte() == MARKER then
    redis.call('DEL', list)
    return 0
  end
  local trimmed = redis.call('LLEN', list) - 1 - cap
  redis.call('LTRIM', list, -(cap + 1), -1)
  return trimmed
end

-- Return the index of the first element that is >= id, given list[low] < id <= list[high].
local function packed_index(list, id, low, high)
  while high - low > 1 do
    local middle = math.floor((low + high) / 2)
    if redis.call('LINDEX', list, middle) < id then low = middle else high = middle end
  end
  return high
end

-- Insert an id at its index, once. Trim the list to `cap` ids when it has more than `max`. Return
-- the outcome; the cost in units of an append (FAR if the index is not near the end); the length of
-- the list if the id was added; and the number of trimmed ids if the list was trimmed. Indexes are
-- texts: Redis takes longer to make a text of a number than to run the command.
local function packed_insert(list, id, cap, max)
  local tail = redis.call('LINDEX', list, '-1')
  if not tail then return COLD, 1 end
  if tail < id then
    local length = redis.call('RPUSH', list, id)
    if length > max + 1 then return ADDED, 1, length, packed_trim(list, cap) end
    return ADDED, 1, length
  end
  if tail == id then return PRESENT, 1 end
  local length, cost
  local near = redis.call('LRANGE', list, '-3', '-1')
  if #near == 3 and near[1] >= id then near = redis.call('LRANGE', list, '-9', '-1') end
  if near[1] < id then
    local index = #near
    while near[index - 1] >= id do index = index - 1 end
    if near[index] == id then return PRESENT, 4 end
    redis.call('RPOP', list, #near - index + 1)
    length, cost = redis.call('RPUSH', list, id, unpack(near, index)), 6
  else
    if redis.call('LINDEX', list, 0) >= id then return BELOW, 4 end
    local index = packed_index(list, id, 0, redis.call('LLEN', list) - 1)
    local above = redis.call('LINDEX', list, index)
    if above == id then return PRESENT, 20 end
    length, cost = redis.call('LINSERT', list, 'BEFORE', above, id), FAR
  end
  if length > max + 1 then return ADDED, cost, length, packed_trim(list, cap) end
  return ADDED, cost, length
end

-- Append an id that is greater than all ids of all lists. Return as packed_insert does.
local function packed_append_newest(list, id, cap, max)
  local length = redis.call('RPUSHX', list, id)
  if length == 0 then return COLD, 1 end
  if length > max + 1 then return ADDED, 1, length, packed_trim(list, cap) end
  return ADDED, 1, length
end

-- Replace a list by its head, which is an element or more, and ids.
local function packed_rewrite(list, ids, ...)
  redis.call('DEL', list)
  redis.call('RPUSH', list, ...)
  call_in_chunks('RPUSH', list, ids)
end

-- Return two ascending lists as one, without repeats, and only the ids above the floor.
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

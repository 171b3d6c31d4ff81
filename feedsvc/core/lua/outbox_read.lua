-- include: packed
-- Read a page's ids from each of several outboxes.
-- KEYS  the tag of the outboxes' shard
-- ARGV  'older' or 'newer', then for each outbox: entity, cursor ('' for the end that the page
--       starts from), count
-- Returns for each outbox {floor ('0' if nothing was trimmed), number of ids above the cursor
--         (towards older ids: at or above it), ids beyond the cursor, nearest to it first}
-- Repeat: only reads.
local is_older = ARGV[1] == 'older'
local OUTBOXES_FROM, FIELDS = 2, 3

local function read(entity, cursor, count)
  local list = key(OUTBOX, entity)
  local length = redis.call('LLEN', list)
  if length == 0 then return {'0', 0} end
  local floor = redis.call('LINDEX', list, 0)
  local page = {floor, 0}
  if is_older then
    local index = length -- of the first element at or above the cursor
    if cursor ~= '' and redis.call('LINDEX', list, -1) >= cursor then
      index = floor >= cursor and 0 or packed_index(list, cursor, 0, length - 1)
    end
    page[2] = length - math.max(1, index)
    if index > 1 then
      local ids = redis.call('LRANGE', list, math.max(1, index - count), index - 1)
      for i = #ids, 1, -1 do page[#page + 1] = ids[i] end
    end
  elseif redis.call('LINDEX', list, -1) > cursor then
    local index = floor >= cursor and 1 or packed_index(list, cursor, 0, length - 1)
    if redis.call('LINDEX', list, index) == cursor then index = index + 1 end
    page[2] = length - index
    local ids = redis.call('LRANGE', list, index, index + count - 1)
    for i = 1, #ids do page[#page + 1] = ids[i] end
  end
  return page
end

local pages = {}
for first = OUTBOXES_FROM, #ARGV, FIELDS do
  pages[#pages + 1] = read(ARGV[first], ARGV[first + 1], tonumber(ARGV[first + 2]))
end
return pages

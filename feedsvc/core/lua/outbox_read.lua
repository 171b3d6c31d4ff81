-- include: packed
-- Reads slices of several outboxes.
-- KEYS  the tag of their shard
-- ARGV  'older' or 'newer', then for each: entity, cursor ('' for the end it starts from), count
-- Returns for each {floor ('0' if nothing was trimmed), ids above the cursor (and the cursor's own, towards older ids),
--         ids beyond the cursor, nearest to it first}; the second is a number
local older, slices = ARGV[1] == 'older', {}
for first = 2, #ARGV, 3 do
  local list, cursor, count = key(OUTBOX, ARGV[first]), ARGV[first + 1], tonumber(ARGV[first + 2])
  local length = redis.call('LLEN', list)
  local slice = {'0', 0}
  if length > 0 then
    slice[1] = redis.call('LINDEX', list, 0)
    local place -- of the first element at or above the cursor
    if older then
      place = length
      if cursor ~= '' and redis.call('LINDEX', list, -1) >= cursor then
        place = slice[1] >= cursor and 0 or packed_place(list, cursor, 0, length - 1)
      end
      slice[2] = length - math.max(1, place)
      if place > 1 then
        local ids = redis.call('LRANGE', list, math.max(1, place - count), place - 1)
        for i = #ids, 1, -1 do slice[#slice + 1] = ids[i] end
      end
    elseif redis.call('LINDEX', list, -1) > cursor then
      place = slice[1] >= cursor and 1 or packed_place(list, cursor, 0, length - 1)
      if redis.call('LINDEX', list, place) == cursor then place = place + 1 end
      slice[2] = length - place
      local ids = redis.call('LRANGE', list, place, place + count - 1)
      for i = 1, #ids do slice[#slice + 1] = ids[i] end
    end
  end
  slices[#slices + 1] = slice
end
return slices

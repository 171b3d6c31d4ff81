-- include: packed clock live
-- Reads a slice of a warm feed, and notes that it was read, if the store takes writes.
-- KEYS  the tag of the user's shard
-- ARGV  user, 'older' or 'newer', cursor ('' for the end it starts from), count
-- Returns {state, floor, end of the live log or '', pulled followees, those of them whose edges need not stay PULL, ids
--         beyond the cursor, nearest to it first}. States: cold, building, warm; without ids unless warm
local user, older, cursor, count = ARGV[1], ARGV[2] == 'older', ARGV[3], tonumber(ARGV[4])
local feed = cache_key(FEED, user)
local head = redis.call('LINDEX', feed, 0)
local state = not head and 'cold' or head:byte() == MARKER and 'building' or 'warm'
local ids = {}
if state == 'warm' then
  local length = redis.call('LLEN', feed)
  if older then
    local place = length
    if cursor ~= '' and redis.call('LINDEX', feed, -1) >= cursor then
      place = head >= cursor and 0 or packed_place(feed, cursor, 0, length - 1)
    end
    if place > 1 then
      local found = redis.call('LRANGE', feed, math.max(1, place - count), place - 1)
      for i = #found, 1, -1 do ids[#ids + 1] = found[i] end
    end
  elseif head <= cursor and redis.call('LINDEX', feed, -1) > cursor then
    local place = packed_place(feed, cursor, 0, length - 1)
    if redis.call('LINDEX', feed, place) == cursor then place = place + 1 end
    ids = redis.call('LRANGE', feed, place, place + count - 1)
  end
  -- At most one write in a tenth of the time to live: with a synchronous append-only file a write costs a sync. A store
  -- that refuses writes answers all the same.
  if redis.call('PTTL', feed) < FEED_TTL_MS * 0.9 then redis.pcall('PEXPIRE', feed, FEED_TTL_MS) end
end
local pulled, unsettled = redis.call('SMEMBERS', key(PULLED, user)), {}
for first = 1, #pulled, 512 do
  local some = {unpack(pulled, first, math.min(first + 511, #pulled))}
  for i, celebrity in ipairs(redis.call('HMGET', CELEBRITIES, unpack(some))) do
    if not celebrity or celebrity:sub(1, 1) ~= 'P' then unsettled[#unsettled + 1] = some[i] end
  end
end
local lease = tonumber(redis.call('ZSCORE', LIVE, user) or nil)
local log_end = lease and lease * 1000 > clock_us() and log_tail(user) or ''
return {state, head or '', log_end, pulled, unsettled, ids}

-- include: arrays clock live modes packed
-- Read a page's ids from a warm feed, and renew the feed's expiry if the store takes writes.
-- KEYS  the tag of the user's shard
-- ARGV  user, 'older' or 'newer', cursor ('' for the end that the page starts from), count
-- Returns {state: cold, building or warm, floor, position at the end of the live log or '', {PULL
--         followees}, {PULL followees whose edges need not stay PULL}, {ids beyond the cursor,
--         nearest to it first}}. Only a warm feed has ids
-- Repeat: reads, and sets the same expiry.
local user, is_older, cursor, count = ARGV[1], ARGV[2] == 'older', ARGV[3], tonumber(ARGV[4])
local feed = cache_key(FEED, user)

local head = redis.call('LINDEX', feed, 0)
local state = packed_state(head)
local ids = {}
if state == 'warm' then
  local length = redis.call('LLEN', feed)
  if is_older then
    local index = length
    if cursor ~= '' and redis.call('LINDEX', feed, -1) >= cursor then
      index = head >= cursor and 0 or packed_index(feed, cursor, 0, length - 1)
    end
    if index > 1 then
      local ascending = redis.call('LRANGE', feed, math.max(1, index - count), index - 1)
      for i = #ascending, 1, -1 do ids[#ids + 1] = ascending[i] end
    end
  elseif head <= cursor and redis.call('LINDEX', feed, -1) > cursor then
    local index = packed_index(feed, cursor, 0, length - 1)
    if redis.call('LINDEX', feed, index) == cursor then index = index + 1 end
    ids = redis.call('LRANGE', feed, index, index + count - 1)
  end
  -- At most one write in a tenth of the time to live: with a synchronous append-only file a write
  -- costs a sync. A store that refuses writes answers all the same.
  if redis.call('PTTL', feed) < FEED_TTL_MS * 0.9 then redis.pcall('PEXPIRE', feed, FEED_TTL_MS) end
end
local pulled, unsettled = redis.call('SMEMBERS', key(PULLED, user)), {}
for first = 1, #pulled, UNPACK_LIMIT do
  local followees = slice(pulled, first, math.min(first + UNPACK_LIMIT - 1, #pulled))
  for i, mode in ipairs(redis.call('HMGET', CELEBRITIES, unpack(followees))) do
    if not mode or not is_pulled(mode) then unsettled[#unsettled + 1] = followees[i] end
  end
end
local deadline = tonumber(redis.call('ZSCORE', LIVE, user) or nil)
local log_end = deadline and deadline * 1000 > clock_us() and log_tail(user) or ''
return {state, head or '', log_end, pulled, unsettled, ids}

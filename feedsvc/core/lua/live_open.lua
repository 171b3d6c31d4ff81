-- include: clock live
-- Has a log written, or keeps it so.
-- KEYS  the tag of its shard
-- ARGV  its name
-- Returns its end. A new log has seen what the warm feed or the outbox holds, so that a repeated delivery of it is not
--         told.
local entity = ARGV[1]
-- A full store refuses a script only before its first write: this changes nothing, and is refused.
redis.call('SETRANGE', key(ACTIVITY, ''), 0, '')
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', LIVE, '-inf', '(' .. string.format('%.0f', clock_us() / 1000),
  'LIMIT', 0, 10)) do log_close(gone) end
if not is_live(entity) then
  log_close(entity) -- whatever may be left of one that lost its lease
  redis.call('XADD', cache_key(LOG, entity), string.format('1-%.0f', clock_us()), 'c', '')
  local stored = redis.call('LRANGE', entity:sub(1, 1) == OUTBOX_LOG and key(OUTBOX, entity:sub(2))
    or cache_key(FEED, entity), 1, -1)
  for first = 1, #stored, 512 do
    redis.call('SADD', cache_key(SEEN, entity), unpack(stored, first, math.min(first + 511, #stored)))
  end
end
log_renew(entity)
return log_tail(entity)

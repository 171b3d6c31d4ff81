-- include: clock live
-- Makes an entity live, or keeps it so.
-- KEYS  the tag of the entity's shard
-- ARGV  entity
-- Returns the end of its log. A new log has seen what the warm feed holds, so that a repeated delivery of it is
--         not told.
local entity = ARGV[1]
for _, gone in ipairs(redis.call('ZRANGEBYSCORE', LIVE, '-inf', '(' .. string.format('%.0f', clock_us() / 1000),
  'LIMIT', 0, 10)) do log_close(gone) end
if not is_live(entity) then
  redis.call('XADD', cache_key(LOG, entity), string.format('1-%.0f', clock_us()), 'c', '')
  local stored = redis.call('LRANGE', cache_key(FEED, entity), 1, -1)
  for first = 1, #stored, 512 do
    redis.call('SADD', cache_key(SEEN, entity), unpack(stored, first, math.min(first + 511, #stored)))
  end
end
log_renew(entity)
return log_tail(entity)

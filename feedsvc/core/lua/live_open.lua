-- include: arrays clock live
-- Open a live log, or renew its lease.
-- KEYS  the tag of the log's shard
-- ARGV  the name of the log
-- Returns the position at the log's end. A new log counts what the warm feed or the outbox holds as
--         announced, so that a repeated delivery makes no entry
-- Repeat: finds the log and renews its lease.
local name = ARGV[1]

-- A full store refuses a script only before its first write. This write changes nothing, and a full
-- store refuses it.
redis.call('SETRANGE', key(ACTIVITY, ''), 0, '')
local expired = redis.call('ZRANGEBYSCORE', LIVE, '-inf',
  '(' .. string.format('%.0f', clock_us() / 1000), 'LIMIT', 0, 10)
for _, log in ipairs(expired) do log_close(log) end
if not is_live(name) then
  log_close(name) -- remove the remains of a log that lost its lease
  redis.call('XADD', cache_key(LOG, name), string.format('1-%.0f', clock_us()), 'c', '')
  local list = cache_key(FEED, name)
  if name:sub(1, 1) == OUTBOX_LOG then list = key(OUTBOX, name:sub(2)) end
  call_in_chunks('SADD', cache_key(SEEN, name), redis.call('LRANGE', list, 1, -1))
end
lease_renew(name)
return log_tail(name)

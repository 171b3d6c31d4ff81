-- Notes which run of the store this is, before anything else is asked of it.
-- KEYS  the tag of a shard
-- ARGV  the store's run id, '1' if it may have lost its last writes when it was started anew
-- Returns the incarnation of the shard
--
-- When it changes, feeds are cold and logs gone, and what was written to outboxes beside it is written again.
local run = redis.call('HGET', TALLIES, 'run')
if run ~= ARGV[1] then
  redis.call('HSET', TALLIES, 'run', ARGV[1])
  if run and ARGV[2] == '1' then
    redis.call('HINCRBY', TALLIES, 'incarnation', 1)
    -- By their set, not by a time: the clock may have been set back.
    redis.call('ZUNIONSTORE', REDO, 2, REDO, DONE, 'AGGREGATE', 'MAX')
    redis.call('DEL', DONE)
  end
end
return redis.call('HGET', TALLIES, 'incarnation') or ''

-- Notes which run of the store this is, before anything else is asked of it.
-- KEYS  the tag of a shard
-- ARGV  the store's run id, '1' if it may have lost its last writes when it was started anew, a random era
-- Returns {incarnation, era} of the shard
--
-- Both change when writes may be lost. Then feeds are cold and logs gone, because the incarnation is part of their names,
-- and what was written to outboxes beside is written again. The era fences off what was begun before: it is random,
-- because a count comes again when the store loses its data twice, or has lost all of it.
local run, era = unpack(redis.call('HMGET', TALLIES, 'run', 'era'))
if run ~= ARGV[1] or not era then
  local lost = run and run ~= ARGV[1] and ARGV[2] == '1'
  if lost or not era then era = ARGV[3] end
  redis.call('HSET', TALLIES, 'run', ARGV[1], 'era', era)
  if lost then
    redis.call('HINCRBY', TALLIES, 'incarnation', 1)
    -- By their set, not by a time: the clock may have been set back.
    redis.call('ZUNIONSTORE', REDO, 2, REDO, DONE, 'AGGREGATE', 'MAX')
    redis.call('DEL', DONE)
  end
end
return {redis.call('HGET', TALLIES, 'incarnation') or '', era}

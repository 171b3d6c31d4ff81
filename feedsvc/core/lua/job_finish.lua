-- include: clock jobs queue
-- Ends a job of a worker. With a flip the entity's mode becomes a lasting one.
-- KEYS  the tag of the job's shard
-- ARGV  job name, worker, incarnation, feeds, cold, seen, audience, state, '1' if the store may lose its last writes
-- Returns 1, or 0 if the job is not the worker's any more
local record = job_of(ARGV[2], ARGV[1], ARGV[3])
if not record then return 0 end
local text = redis.call('HGET', record, 'job')
job_note(record, '', ARGV[4], ARGV[5], ARGV[6])
job_close(record, ARGV[1])
redis.call('HSET', record, 'audience', ARGV[7], 'state', ARGV[8])
redis.call('PEXPIRE', record, DONE_MS)
job_done(text, ARGV[9])
if text:sub(1, 1) == 'c' then
  local entity, epoch = key(EDGES, text:sub(22)), string.format('%.0f', tonumber(text:sub(2, 20)))
  local mode = redis.call('HGET', entity, MODE)
  if mode == '>' .. epoch then redis.call('HSET', entity, MODE, 'P' .. epoch) end
  if mode == '<' .. epoch then redis.call('HSET', entity, MODE, 'U' .. epoch) end
end
return 1

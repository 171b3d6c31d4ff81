-- include: clock jobs queue
-- Puts a job that its own process has begun into the queue.
-- KEYS  the tag of the job's shard
-- ARGV  job, incarnation, at, feeds, cold, seen, audience, state meanwhile
-- Returns 1, or 0 if it was taken over, and so is in the queue already
if redis.call('ZREM', DUE, ARGV[1]) == 0 then return 0 end
-- What was done of it before the store lost its last writes may be lost.
job_queue(ARGV[1], incarnation_is(ARGV[2]) and ARGV[3] or '', unpack(ARGV, 4, 7))
redis.call('HSET', key(JOB, job_name(ARGV[1])), 'state', ARGV[8])
return 1

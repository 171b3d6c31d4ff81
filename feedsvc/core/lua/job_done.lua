-- include: clock jobs
-- Ends a job that its own process has done.
-- KEYS  the tag of the job's shard
-- ARGV  job, incarnation, '1' if the store may lose its last writes
-- Returns 1, or 0 if the store has lost what was done of it: then it is done again
if not incarnation_is(ARGV[2]) then return 0 end
if redis.call('ZREM', DUE, ARGV[1]) == 1 then job_done(ARGV[1], ARGV[3]) end
return 1

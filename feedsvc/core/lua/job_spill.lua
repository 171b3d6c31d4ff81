-- include: era job_text queue
-- Spill a job: put a job that its own process has begun into the queue.
-- KEYS  the tag of the job's shard
-- ARGV  job, era, positions, feeds, cold, seen, audience, state meanwhile
-- Returns 1, or 0 if the workers have the job already
-- Repeat: the process does not own the job any more: the second call returns 0 and changes nothing.
local job, era, positions = ARGV[1], ARGV[2], ARGV[3]
local feeds, cold, seen, audience, state = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]

if redis.call('ZREM', DUE, job) == 0 then return 0 end
-- A store that lost its last writes may have lost work that was done for the job.
if not era_is(era) then positions = '' end
job_queue(job, positions, feeds, cold, seen, audience)
redis.call('HSET', key(JOB, job_name(job)), 'state', state)
return 1

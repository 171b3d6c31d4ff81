-- include: clock jobs queue
-- Notes how far a worker has come with a job, and prolongs its lease, or gives the job back.
-- KEYS  the tag of the job's shard
-- ARGV  job name, worker, incarnation, at, feeds, cold, seen, audience, '1' to prolong the lease, '0' to give it up
-- Returns 1, or 0 if the job is not the worker's any more
local record = job_of(ARGV[2], ARGV[1], ARGV[3])
if not record then return 0 end
job_note(record, ARGV[4], ARGV[5], ARGV[6], ARGV[7])
redis.call('HSET', record, 'audience', ARGV[8])
if ARGV[9] == '1' then
  redis.call('ZADD', RUNNING, string.format('%.0f', clock_ms() + JOB_LEASE_MS), ARGV[1])
else
  job_back(record, ARGV[1])
end
return 1

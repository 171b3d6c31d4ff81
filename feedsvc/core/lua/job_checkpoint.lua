-- include: clock queue
-- Store a worker's checkpoint of a job, and renew the job's lease or give the job back.
-- KEYS  the tag of the job's shard
-- ARGV  job name, worker, era, positions, feeds, cold, seen, audience, '1' to renew the lease, '0'
--       to give the job back
-- Returns 1, or 0 if the worker does not hold the job any more
-- Repeat: stores the same checkpoint and renews the same lease. A job that was given back stays in
--         the queue: the second call returns 0.
local name, worker, era = ARGV[1], ARGV[2], ARGV[3]
local positions, feeds, cold, seen, audience = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local is_kept = ARGV[9] == '1'

local record = job_held(name, worker, era)
if not record then return 0 end
job_checkpoint(record, positions, feeds, cold, seen)
redis.call('HSET', record, 'audience', audience)
if is_kept then
  redis.call('ZADD', RUNNING, string.format('%.0f', clock_ms() + JOB_LEASE_MS), name)
else
  job_requeue(record, name)
end
return 1

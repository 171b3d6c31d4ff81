-- include: clock jobs queue
-- Notes that a worker's attempt failed. The job is tried again after a while, or set aside.
-- KEYS  the tag of the job's shard
-- ARGV  job name, worker, incarnation, at, feeds, cold, seen, audience, error
-- Returns 1 if it was set aside
local record = job_of(ARGV[2], ARGV[1], ARGV[3])
if not record then return 0 end
job_note(record, ARGV[4], ARGV[5], ARGV[6], ARGV[7])
redis.call('HSET', record, 'audience', ARGV[8])
local tries = redis.call('HINCRBY', record, 'tries', 1)
if tries >= JOB_TRIES then
  job_bury(record, ARGV[1], ARGV[9])
  return 1
end
redis.call('HDEL', record, 'worker')
redis.call('ZADD', RUNNING, string.format('%.0f', clock_ms() + math.min(JOB_LEASE_MS, 50 * 2 ^ tries)), ARGV[1])
return 0

-- include: clock queue
-- Note that a worker's attempt failed. A worker tries the job again after a while; after too many
-- attempts the job becomes a dead letter.
-- KEYS  the tag of the job's shard
-- ARGV  job name, worker, era, positions, feeds, cold, seen, audience, error
-- Returns {failed attempts, entry of the dead letter that the job is now, or ''}
-- Repeat: the worker does not hold the job any more. The attempt counts once; the second call
--         returns {0, ''}.
local name, worker, era = ARGV[1], ARGV[2], ARGV[3]
local positions, feeds, cold, seen, audience = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local error_text = ARGV[9]

local record = job_held(name, worker, era)
if not record then return {0, ''} end
job_checkpoint(record, positions, feeds, cold, seen)
redis.call('HSET', record, 'audience', audience)
local attempts = redis.call('HINCRBY', record, 'tries', 1)
if attempts >= JOB_TRIES then
  return {attempts, job_set_aside(record, name, error_text)}
end
redis.call('HDEL', record, 'worker')
local pause_ms = math.min(JOB_LEASE_MS, 50 * 2 ^ attempts)
redis.call('ZADD', RUNNING, string.format('%.0f', clock_ms() + pause_ms), name)
return {attempts, ''}

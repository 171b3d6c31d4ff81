-- include: queue
-- Give up a job of which a worker cannot store a checkpoint, because the worker lost the lease, or
-- the store its last writes. The worker is alive: if the end of its lease counted as a failed
-- attempt of the job, the attempt counts no more.
-- KEYS  the tag of the job's shard
-- ARGV  job name, worker
-- Returns nothing
-- Repeat: the worker neither holds the job nor is blamed any more: the second call changes nothing.
local name, worker = ARGV[1], ARGV[2]
local record = key(JOB, name)

local holder, blamed, attempts = unpack(redis.call('HMGET', record, 'worker', 'blamed', 'tries'))
if holder == worker then
  job_requeue(record, name)
elseif blamed == worker then
  redis.call('HDEL', record, 'blamed')
  if tonumber(attempts) > 0 then redis.call('HINCRBY', record, 'tries', -1) end
end

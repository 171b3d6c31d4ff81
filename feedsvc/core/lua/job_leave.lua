-- include: clock jobs queue
-- A worker gives up a job of which it cannot note anything, because it lost the lease, or the store its last writes. The
-- worker is alive: if the end of its lease was counted as a failure of the job, it is no more.
-- KEYS  the tag of the job's shard
-- ARGV  job name, worker
local record = key(JOB, ARGV[1])
local owner, blamed, tries = unpack(redis.call('HMGET', record, 'worker', 'blamed', 'tries'))
if owner == ARGV[2] then
  job_back(record, ARGV[1])
elseif blamed == ARGV[2] then
  redis.call('HDEL', record, 'blamed')
  if tonumber(tries) > 0 then redis.call('HINCRBY', record, 'tries', -1) end
end

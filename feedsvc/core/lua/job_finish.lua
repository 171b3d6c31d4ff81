-- include: job_text jobs modes queue
-- End a job of a worker. The end of a flip sets the entity's lasting mode.
-- KEYS  the tag of the job's shard
-- ARGV  job name, worker, era, feeds, cold, seen, audience, state, '1' if the store may lose its
--       last writes
-- Returns 1, or 0 if the worker does not hold the job any more
-- Repeat: the job has ended and no worker holds it: the second call returns 0 and changes nothing.
local name, worker, era = ARGV[1], ARGV[2], ARGV[3]
local feeds, cold, seen, audience, state = ARGV[4], ARGV[5], ARGV[6], ARGV[7], ARGV[8]
local is_lossy = ARGV[9]

local record = job_held(name, worker, era)
if not record then return 0 end
local text = redis.call('HGET', record, 'job')
job_checkpoint(record, '', feeds, cold, seen)
job_unqueue(record, name)
redis.call('HSET', record, 'audience', audience, 'state', state)
redis.call('PEXPIRE', record, DELIVERY_TTL_MS)
job_remember_done(text, is_lossy)
local entity, epoch = job_flip(text)
if entity then mode_end_flip(entity, epoch, MODE_PULL) end
return 1

-- include: clock jobs queue
-- Says how far a job has come.
-- KEYS  the tag of the job's shard
-- ARGV  job
-- Returns {state, feeds, cold, audience}. States: due, queued, failed; delivered, pulled: it has ended; '': nothing is known of it,
--         so it ended long ago, or within the call that made it; then also whether the actor's followers read for
--         themselves
if redis.call('ZSCORE', DUE, ARGV[1]) then return {'due'} end
local record = key(JOB, job_name(ARGV[1]))
local fields = redis.call('HMGET', record, 'job', 'state', 'feeds', 'cold', 'audience')
if fields[1] then return {fields[2] or 'queued', fields[3], fields[4], fields[5]} end
local mode = redis.call('HGET', key(EDGES, ARGV[1]:match('^[^%z]*%z([^%z]*)')), MODE) or ''
return {'', mode:sub(1, 1) == 'P' and '1' or '0'}

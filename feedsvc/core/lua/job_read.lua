-- include: clock jobs queue
-- Says how far jobs have come.
-- KEYS  the tag of each job's shard; of one shard, where each shard has a slot of its own
-- ARGV  the jobs
-- Returns for each {state, feeds, cold, audience}. States: due, queued, failed; delivered, pulled: it has ended; '': nothing
--         is known of it, so it ended long ago, or within the call that made it; then also whether the actor's followers
--         read for themselves
local function read(job)
  if redis.call('ZSCORE', DUE, job) then return {'due'} end
  local fields = redis.call('HMGET', key(JOB, job_name(job)), 'job', 'state', 'feeds', 'cold', 'audience')
  if fields[1] then return {fields[2] or 'queued', fields[3], fields[4], fields[5]} end
  local mode = redis.call('HGET', key(EDGES, job:match('^[^%z]*%z([^%z]*)')), MODE) or ''
  return {'', mode:sub(1, 1) == 'P' and '1' or '0'}
end

local states = {}
for i = 1, #KEYS do
  use(KEYS[i])
  states[i] = read(ARGV[i])
end
return states

-- include: job_text modes
-- Read the progress of jobs.
-- KEYS  the tag of each job's shard; of one shard where each shard has a slot of its own
-- ARGV  the jobs
-- Returns for each job {state, feeds, cold, audience}. States: due; queued, failed; delivered or
--         pulled if the job has ended. {'', '1' if the followers pull, else '0'} if the store has
--         no record of the job, which ended long ago, or within the call that made it
-- Repeat: only reads.
local function read(job)
  if redis.call('ZSCORE', DUE, job) then return {'due'} end
  local text, state, feeds, cold, audience = unpack(
    redis.call('HMGET', key(JOB, job_name(job)), 'job', 'state', 'feeds', 'cold', 'audience'))
  if text then return {state or 'queued', feeds, cold, audience} end
  local mode = redis.call('HGET', key(EDGES, job_addressee(job)), MODE) or ''
  return {'', is_pulled(mode) and '1' or '0'}
end

local results = {}
for i, tag in ipairs(KEYS) do
  use(tag)
  results[i] = read(ARGV[i])
end
return results

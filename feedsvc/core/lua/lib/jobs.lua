-- include: clock job_text
-- Jobs that the process of a call does itself, and the store's memory of ended jobs.

-- Give a job to the caller's process for as long as a lease.
local function job_own(text)
  redis.call('ZADD', DUE, string.format('%.0f', clock_ms() + JOB_LEASE_MS), text)
end

-- Remember that a job has ended, for the case that the store loses its last writes (`is_lossy` is
-- '1' if the store may): then a worker does the job again, because outboxes of other shards may
-- have lost what the job wrote to them.
local function job_remember_done(text, is_lossy)
  if is_lossy ~= '1' or not job_has_outboxes(text) then return end
  local now = clock_ms()
  redis.call('ZADD', DONE, string.format('%.0f', now), text)
  -- Forget two jobs at a time: a clock that jumps ahead must not make the store forget all recent
  -- jobs at once.
  local oldest = redis.call('ZRANGEBYSCORE', DONE, '-inf',
    string.format('%.0f', now - DELIVERY_TTL_MS), 'LIMIT', 0, 2)
  if oldest[1] then redis.call('ZREM', DONE, unpack(oldest)) end
end

-- Jobs. The text of one is a letter for its kind, the 19 digits of its subject, and after a NUL each the actor (with a \1
-- before it if its own followers are not addressed) and the other outboxes. Needs clock.lua.

-- Makes a job that belongs to the caller's process for as long as a lease.
local function job_due(text) redis.call('ZADD', DUE, string.format('%.0f', clock_ms() + JOB_LEASE_MS), text) end

-- Notes that a job has ended. `lossy`: '1' if the store may lose its last writes; what was written to outboxes of
-- other shards is then written again.
local function job_done(text, lossy)
  if lossy ~= '1' or not text:find('%z.*%z') then return end
  local now = clock_ms()
  redis.call('ZADD', DONE, string.format('%.0f', now), text)
  -- Two at a time: a clock that is set right again must not take away at once what has just been done.
  local old = redis.call('ZRANGEBYSCORE', DONE, '-inf', string.format('%.0f', now - DONE_MS), 'LIMIT', 0, 2)
  if old[1] then redis.call('ZREM', DONE, unpack(old)) end
end

-- Whether the store is what it was when a job was begun: see incarnate.lua. What is expected is an era.
local function incarnation_is(expected) return (redis.call('HGET', TALLIES, 'era') or '') == expected end

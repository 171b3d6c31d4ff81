-- include: clock jobs queue
-- Hands out waiting jobs: from the shards in turn, and in a shard from its authors in turn. Before that it puts back into
-- the queues some jobs whose lease ran out, some that a dead process left behind, and, after the store has lost its last
-- writes, some finished ones; however long the queues are.
-- KEYS  the tags of shards in the order of their turns; one, where each shard has a slot of its own
-- ARGV  worker, how many jobs at most, how many jobs of an author the worker may have, '1' to count a lease that ran out
--       as a failure of its job, '1' to take also what others are doing, then authors and how many of their jobs the
--       worker has
-- Returns {for each job {index of its tag, job, at, feeds, cold, seen, audience, era of the shard}, indexes of the tags of the shards in
--       which more jobs wait}
local worker, most, each, blame, all = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3]), ARGV[4] == '1', ARGV[5] == '1'
local SWEEP = math.max(2, math.floor(64 / #KEYS))
local taken, has = {}, {}
for i = 6, #ARGV, 2 do has[ARGV[i]] = tonumber(ARGV[i + 1]) end

-- A time further ahead than anybody sets it was written before the clock was set back.
local function overdue(set)
  if all then return redis.call('ZRANGE', set, 0, SWEEP - 1) end
  local now = clock_ms()
  local found = redis.call('ZRANGEBYSCORE', set, '-inf', string.format('%.0f', now), 'LIMIT', 0, SWEEP)
  if found[1] then return found end
  return redis.call('ZRANGEBYSCORE', set, string.format('(%.0f', now + JOB_LEASE_MS), '+inf', 'LIMIT', 0, SWEEP)
end

local function sweep(set, jobs)
  for _, text in ipairs(jobs) do
    job_queue(text, '', 0, 0, 0, '')
    redis.call('ZREM', set, text)
  end
end

-- A lease ran out. A worker that gave its job back did nothing wrong; another one has died, or was cut off. A worker that
-- asks is alive, and says so later if it was only cut off: see job_leave.lua.
local function take_over(name)
  local record = key(JOB, name)
  local text, owner = unpack(redis.call('HMGET', record, 'job', 'worker'))
  if not text then return redis.call('ZREM', RUNNING, name) end -- nothing is known of it
  if owner and (all or blame and owner ~= worker) then
    redis.call('HSET', record, 'blamed', owner)
    if redis.call('HINCRBY', record, 'tries', 1) >= JOB_TRIES then
      return job_bury(record, name, 'each process that tried it died or was cut off')
    end
  end
  job_back(record, name)
end

-- Takes a job of the next author who has not had his share yet.
local function take(index)
  for _ = 1, redis.call('LLEN', AUTHORS) do
    local author = redis.call('LINDEX', AUTHORS, 0)
    if (has[author] or 0) < each then
      local list = key(WAITING, author)
      local name = redis.call('LINDEX', list, 0)
      local record = key(JOB, name)
      redis.call('HSET', record, 'worker', worker)
      redis.call('ZADD', RUNNING, string.format('%.0f', clock_ms() + JOB_LEASE_MS), name)
      redis.call('LPOP', list)
      if redis.call('EXISTS', list) == 1 then
        redis.call('LMOVE', AUTHORS, AUTHORS, 'LEFT', 'RIGHT')
      else
        redis.call('LPOP', AUTHORS)
      end
      has[author] = (has[author] or 0) + 1
      local fields = redis.call('HMGET', record, 'job', 'at', 'feeds', 'cold', 'seen', 'audience')
      fields[7] = redis.call('HGET', TALLIES, 'era') or ''
      taken[#taken + 1] = {index, unpack(fields)}
      return true
    end
    redis.call('LMOVE', AUTHORS, AUTHORS, 'LEFT', 'RIGHT')
  end
end

local waiting, left = {}, {}
for i = 1, #KEYS do
  use(KEYS[i])
  sweep(DUE, overdue(DUE))
  sweep(REDO, redis.call('ZRANGE', REDO, 0, SWEEP - 1))
  for _, name in ipairs(overdue(RUNNING)) do take_over(name) end
  if redis.call('EXISTS', AUTHORS) == 1 then waiting[#waiting + 1] = i end
end
local turns = waiting
while #taken < most and turns[1] do
  local next_turns = {}
  for _, i in ipairs(turns) do
    use(KEYS[i])
    if #taken < most and take(i) then next_turns[#next_turns + 1] = i end
  end
  turns = next_turns
end
for _, i in ipairs(waiting) do
  use(KEYS[i])
  if redis.call('EXISTS', AUTHORS) == 1 then left[#left + 1] = i end
end
return {taken, left}

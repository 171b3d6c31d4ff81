-- include: clock queue
-- Hand out waiting jobs, from the shards in turn and in a shard from its authors in turn. Before
-- that the script puts jobs back into the queues, however long the queues are: jobs whose lease ran
-- out, jobs that a dead process left behind, and, after the store has lost its last writes, ended
-- jobs.
-- KEYS  the tags of shards in the order of their turns; one where each shard has a slot of its own
-- ARGV  worker, most jobs to hand out, most jobs of an author that the worker may hold, '1' to
--       count a lease that ran out as a failed attempt of its job, '1' to take over also the jobs
--       that other processes are doing, then authors, each with the number of its jobs that the
--       worker holds
-- Returns {{for each job: index of its tag, job, positions, feeds, cold, seen, audience, era of the
--         shard}, {indexes of the tags of the shards in which more jobs wait}, {for each job that
--         became a dead letter: index of its tag, job, entry, failed attempts, error}}
-- Repeat: hands out other jobs. The worker does not know the jobs of the lost reply: these jobs
--         come back when their lease ends.
local worker, max_jobs, max_of_author = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local is_blaming, takes_all = ARGV[4] == '1', ARGV[5] == '1'
local AUTHORS_HELD, FIELDS = 6, 2
local SWEEP = math.max(2, math.floor(64 / #KEYS)) -- most jobs of a set that come back in a call
local DIED = 'each process that tried it died or was cut off'
local taken, held, letters = {}, {}, {}
for i = AUTHORS_HELD, #ARGV, FIELDS do held[ARGV[i]] = tonumber(ARGV[i + 1]) end

-- Return members whose time has come. A time further ahead than any process sets was written before
-- the clock was set back.
local function overdue(set)
  if takes_all then return redis.call('ZRANGE', set, 0, SWEEP - 1) end
  local now_ms = clock_ms()
  local members = redis.call('ZRANGEBYSCORE', set, '-inf', string.format('%.0f', now_ms),
    'LIMIT', 0, SWEEP)
  if members[1] then return members end
  return redis.call('ZRANGEBYSCORE', set, string.format('(%.0f', now_ms + JOB_LEASE_MS), '+inf',
    'LIMIT', 0, SWEEP)
end

-- Move jobs from a set to the queue, where they begin anew.
local function sweep(set, jobs)
  for _, job in ipairs(jobs) do
    job_queue(job, '', 0, 0, 0, '')
    redis.call('ZREM', set, job)
  end
end

-- Put a job whose lease ran out back into the queue. A job without a holder was waiting for another
-- attempt. A holder has died or was cut off, unless it is the worker that calls now. A worker that
-- was only cut off says so later: see job_leave.lua.
local function take_over(name, index)
  local record = key(JOB, name)
  local text, holder = unpack(redis.call('HMGET', record, 'job', 'worker'))
  if not text then return redis.call('ZREM', RUNNING, name) end -- the store has lost the record
  if holder and (takes_all or is_blaming and holder ~= worker) then
    redis.call('HSET', record, 'blamed', holder)
    local attempts = redis.call('HINCRBY', record, 'tries', 1)
    if attempts >= JOB_TRIES then
      letters[#letters + 1] = {index, text, job_set_aside(record, name, DIED), attempts, DIED}
      return
    end
  end
  job_requeue(record, name)
end

-- Hand out the first job of the author at the head of the ring.
local function take_from(author, index)
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
  held[author] = (held[author] or 0) + 1
  local fields = redis.call('HMGET', record, 'job', 'at', 'feeds', 'cold', 'seen', 'audience')
  fields[7] = redis.call('HGET', TALLIES, 'era') or ''
  taken[#taken + 1] = {index, unpack(fields)}
end

-- Hand out a job of the next author of whom the worker may hold another job; return false if no
-- author has such a job.
local function take(index)
  for _ = 1, redis.call('LLEN', AUTHORS) do
    local author = redis.call('LINDEX', AUTHORS, 0)
    if (held[author] or 0) < max_of_author then
      take_from(author, index)
      return true
    end
    redis.call('LMOVE', AUTHORS, AUTHORS, 'LEFT', 'RIGHT')
  end
  return false
end

local waiting, still_waiting = {}, {}
for i, tag in ipairs(KEYS) do
  use(tag)
  sweep(DUE, overdue(DUE))
  sweep(REDO, redis.call('ZRANGE', REDO, 0, SWEEP - 1))
  for _, name in ipairs(overdue(RUNNING)) do take_over(name, i) end
  if redis.call('EXISTS', AUTHORS) == 1 then waiting[#waiting + 1] = i end
end
local turns = waiting
while #taken < max_jobs and turns[1] do
  local next_turns = {}
  for _, i in ipairs(turns) do
    use(KEYS[i])
    if #taken < max_jobs and take(i) then next_turns[#next_turns + 1] = i end
  end
  turns = next_turns
end
for _, i in ipairs(waiting) do
  use(KEYS[i])
  if redis.call('EXISTS', AUTHORS) == 1 then still_waiting[#still_waiting + 1] = i end
end
return {taken, still_waiting, letters}

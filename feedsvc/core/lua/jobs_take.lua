-- include: clock jobs queue
-- Hands out jobs: those whose lease ran out, then new ones, to which those that a dead process left behind have been added,
-- and, after the store has lost its last writes, finished ones.
-- KEYS  the tags of shards; one, where each shard has a slot of its own
-- ARGV  worker, how many at most, '1' to take also what others are doing
-- Returns for each {index of its tag, job, at, feeds, cold, seen, audience, since, tries, era of the shard}
--
-- A job that was taken too often without getting on is set aside: whoever has it dies.
local worker, most, all = ARGV[1], tonumber(ARGV[2]), ARGV[3] == '1'
local taken, swept = {}, 0

-- A time further ahead than anybody sets it was written before the clock was set back.
local function overdue(set)
  local count = most - #taken - swept
  if count <= 0 then return {} end
  if all then return redis.call('ZRANGE', set, 0, count - 1) end
  local now = clock_ms()
  local found = redis.call('ZRANGEBYSCORE', set, '-inf', string.format('%.0f', now), 'LIMIT', 0, count)
  if found[1] then return found end
  return redis.call('ZRANGEBYSCORE', set, string.format('(%.0f', now + JOB_LEASE_MS), '+inf', 'LIMIT', 0, count)
end

local function sweep(set, jobs)
  for _, text in ipairs(jobs) do
    redis.call('ZREM', set, text)
    job_queue(text, '', 0, 0, 0, '')
  end
  swept = swept + #jobs
end

local function take(index, name)
  local record = key(JOB, name)
  if redis.call('HINCRBY', record, 'tries', 1) > JOB_TRIES then
    return job_bury(record, name, 'each process that tried it died or was cut off')
  end
  redis.call('HSET', record, 'worker', worker)
  redis.call('ZADD', RUNNING, string.format('%.0f', clock_ms() + JOB_LEASE_MS), name)
  taken[#taken + 1] = {index, unpack(redis.call('HMGET', record, 'job', 'at', 'feeds', 'cold', 'seen', 'audience',
    'since', 'tries'))}
  taken[#taken][10] = redis.call('HGET', TALLIES, 'era') or ''
end

for i = 1, #KEYS do
  use(KEYS[i])
  if #taken >= most then break end
  sweep(DUE, overdue(DUE))
  if most > #taken + swept then sweep(REDO, redis.call('ZRANGE', REDO, 0, most - #taken - swept - 1)) end
  for _, name in ipairs(overdue(RUNNING)) do take(i, name) end
  if #taken < most and redis.call('EXISTS', JOBS) == 1 then
    local read = redis.call('XREADGROUP', 'GROUP', GROUP, WORKERS, 'COUNT', most - #taken, 'STREAMS', JOBS, '>')
    for _, entry in ipairs(read and read[1][2] or {}) do take(i, job_name(entry[2][2])) end
  end
end
return taken

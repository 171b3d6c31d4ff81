-- The queue of a shard: its unfinished jobs by age (JOBS), a list of the waiting jobs of each author (WAITING), and a
-- ring of the authors that have waiting jobs (AUTHORS). Authors take turns, so that no backlog of one author delays
-- another author. Needs clock.lua and jobs.lua.

-- What the record of a job is called. An entity is flipped one way at a time, so its name is enough.
local function job_name(text) return text:sub(1, 1) == 'c' and 'c' .. text:sub(22) or text:sub(1, 20) end

-- Whose job it is: the actor, or the entity of a flip.
local function job_author(text) return text:match('^[^%z]*%z\1?([^%z]*)') end

-- Lets a job wait for a worker, behind or in front of the author's other jobs.
local function job_wait(name, text, front)
  local author = job_author(text)
  if redis.call(front and 'LPUSH' or 'RPUSH', key(WAITING, author), name) == 1 then
    redis.call('RPUSH', AUTHORS, author)
  end
end

-- Puts a job into the queue, unless it is there.
local function job_queue(text, at, feeds, cold, seen, audience)
  local name, now = job_name(text), string.format('%.0f', clock_ms())
  if redis.call('ZSCORE', JOBS, name) then return end
  local record = key(JOB, name)
  redis.call('DEL', record)
  redis.call('HSET', record, 'job', text, 'since', now, 'at', at, 'feeds', feeds, 'cold', cold, 'seen', seen,
    'audience', audience, 'tries', 0)
  redis.call('ZADD', JOBS, now, name)
  job_wait(name, text)
end

-- A worker's job, if it still is: not if its lease ran out, nor if the store has lost what was done of it.
local function job_of(worker, name, incarnation)
  local record = key(JOB, name)
  return incarnation_is(incarnation) and redis.call('HGET', record, 'worker') == worker and record
end

-- Takes a job from its worker and lets it wait in front of the author's other jobs.
local function job_back(record, name)
  redis.call('HDEL', record, 'worker')
  redis.call('ZREM', RUNNING, name)
  job_wait(name, redis.call('HGET', record, 'job'), true)
end

-- Notes how far a job has come, and how many more it has reached.
local function job_note(record, at, feeds, cold, seen)
  local old_at, old_seen = unpack(redis.call('HMGET', record, 'at', 'seen'))
  redis.call('HSET', record, 'at', at, 'feeds', feeds, 'cold', cold, 'seen', seen)
  if old_at ~= at then
    redis.call('HSET', record, 'tries', 0)
    redis.call('HDEL', record, 'blamed')
  end
  local more = tonumber(seen) - tonumber(old_seen)
  if more > 0 then
    local bucket = key(REACHED, string.format('%.0f', math.floor(clock_ms() / 10000)))
    redis.call('INCRBY', bucket, more)
    redis.call('EXPIRE', bucket, 120)
  end
end

-- Takes a job that a worker has out of the queue.
local function job_close(record, name)
  redis.call('ZREM', JOBS, name)
  redis.call('ZREM', RUNNING, name)
  redis.call('HDEL', record, 'worker', 'blamed')
end

-- Sets a job aside. The letter has all that is needed to go on.
local function job_bury(record, name, error)
  local fields = redis.call('HMGET', record, 'job', 'since', 'at', 'feeds', 'cold', 'seen', 'audience', 'tries')
  redis.call('XADD', DEAD, '*', 'job', fields[1], 'since', fields[2], 'at', fields[3], 'feeds', fields[4],
    'cold', fields[5], 'seen', fields[6], 'audience', fields[7], 'tries', fields[8], 'error', error)
  job_close(record, name)
  redis.call('HSET', record, 'state', 'failed')
end

-- include: clock era job_text
-- The queue of a shard: its unfinished jobs by age (JOBS), a list of the waiting jobs of each
-- author (WAITING), and a ring of the authors that have waiting jobs (AUTHORS). Authors take turns,
-- so that the backlog of one author does not delay another author.

-- Let a job wait for a worker after the author's other jobs, or before them.
local function job_wait(name, text, is_first)
  local author = job_author(text)
  if redis.call(is_first and 'LPUSH' or 'RPUSH', key(WAITING, author), name) == 1 then
    redis.call('RPUSH', AUTHORS, author)
  end
end

-- Put a job into the queue, unless the queue has it.
local function job_queue(text, positions, feeds, cold, seen, audience)
  local name, now = job_name(text), string.format('%.0f', clock_ms())
  if redis.call('ZSCORE', JOBS, name) then return end
  local record = key(JOB, name)
  redis.call('DEL', record)
  redis.call('HSET', record, 'job', text, 'since', now, 'at', positions, 'feeds', feeds,
    'cold', cold, 'seen', seen, 'audience', audience, 'tries', 0)
  redis.call('ZADD', JOBS, now, name)
  job_wait(name, text)
end

-- Return the key of a job's record if the worker holds the job. Return false if the lease ran out,
-- or if the store has lost work that was done for the job.
local function job_held(name, worker, era)
  local record = key(JOB, name)
  return era_is(era) and redis.call('HGET', record, 'worker') == worker and record
end

-- Take a job from its worker and let the job wait before the author's other jobs.
local function job_requeue(record, name)
  redis.call('HDEL', record, 'worker')
  redis.call('ZREM', RUNNING, name)
  job_wait(name, redis.call('HGET', record, 'job'), true)
end

-- Store the checkpoint of a job, and count the followers that the job has reached since the last
-- checkpoint. Progress clears the failed attempts.
local function job_checkpoint(record, positions, feeds, cold, seen)
  local old_positions, old_seen = unpack(redis.call('HMGET', record, 'at', 'seen'))
  redis.call('HSET', record, 'at', positions, 'feeds', feeds, 'cold', cold, 'seen', seen)
  if old_positions ~= positions then
    redis.call('HSET', record, 'tries', 0)
    redis.call('HDEL', record, 'blamed')
  end
  local reached = tonumber(seen) - tonumber(old_seen)
  if reached > 0 then
    local bucket = key(REACHED, string.format('%.0f', math.floor(clock_ms() / 10000)))
    redis.call('INCRBY', bucket, reached)
    redis.call('EXPIRE', bucket, 120)
  end
end

-- Take a job that a worker holds out of the queue.
local function job_unqueue(record, name)
  redis.call('ZREM', JOBS, name)
  redis.call('ZREM', RUNNING, name)
  redis.call('HDEL', record, 'worker', 'blamed')
end

-- Turn a job into a dead letter, which has all that a replay needs. Return the letter's entry.
local function job_set_aside(record, name, error)
  local fields = redis.call('HMGET', record, 'job', 'since', 'at', 'feeds', 'cold', 'seen',
    'audience', 'tries')
  local entry = redis.call('XADD', DEAD, '*', 'job', fields[1], 'since', fields[2], 'at', fields[3],
    'feeds', fields[4], 'cold', fields[5], 'seen', fields[6], 'audience', fields[7],
    'tries', fields[8], 'error', error)
  job_unqueue(record, name)
  redis.call('HSET', record, 'state', 'failed')
  return entry
end

-- Return a dead letter's fields by name; nil if there is no such entry.
local function dead_letter(entry)
  local stored = redis.call('XRANGE', DEAD, entry, entry)[1]
  if not stored then return nil end
  local fields, letter = stored[2], {}
  for i = 1, #fields, 2 do letter[fields[i]] = fields[i + 1] end
  return letter
end

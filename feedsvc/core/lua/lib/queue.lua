-- The queue of jobs, and the record of each that was in it. Needs clock.lua and jobs.lua.
local GROUP, WORKERS = 'workers', 'feedsvc'

-- What the record of a job is called. An entity is flipped one way at a time, so its name is enough.
local function job_name(text) return text:sub(1, 1) == 'c' and 'c' .. text:sub(22) or text:sub(1, 20) end

-- Puts a job into the queue, unless it is there.
local function job_queue(text, at, feeds, cold, seen, audience)
  if redis.call('EXISTS', JOBS) == 0 then redis.call('XGROUP', 'CREATE', JOBS, GROUP, '0', 'MKSTREAM') end
  local record = key(JOB, job_name(text))
  if redis.call('HEXISTS', record, 'entry') == 1 then return end
  redis.call('DEL', record)
  redis.call('HSET', record, 'job', text, 'entry', redis.call('XADD', JOBS, '*', 'job', text),
    'since', string.format('%.0f', clock_ms()), 'at', at, 'feeds', feeds, 'cold', cold, 'seen', seen,
    'audience', audience, 'tries', 0)
end

-- A worker's job, if it still is: not if its lease ran out, nor if the store has lost what was done of it.
local function job_of(worker, name, incarnation)
  local record = key(JOB, name)
  return incarnation_is(incarnation) and redis.call('HGET', record, 'worker') == worker and record
end

-- Notes how far a job has come, and how many more it has reached.
local function job_note(record, at, feeds, cold, seen)
  local old_at, old_seen = unpack(redis.call('HMGET', record, 'at', 'seen'))
  redis.call('HSET', record, 'at', at, 'feeds', feeds, 'cold', cold, 'seen', seen)
  if old_at ~= at then redis.call('HSET', record, 'tries', 0) end
  local more = tonumber(seen) - tonumber(old_seen)
  if more > 0 then
    local bucket = key(REACHED, string.format('%.0f', math.floor(clock_ms() / 10000)))
    redis.call('INCRBY', bucket, more)
    redis.call('EXPIRE', bucket, 120)
  end
end

-- Takes a job out of the queue.
local function job_close(record, name)
  local entry = redis.call('HGET', record, 'entry')
  redis.call('XACK', JOBS, GROUP, entry)
  redis.call('XDEL', JOBS, entry)
  redis.call('ZREM', RUNNING, name)
  redis.call('HDEL', record, 'worker', 'entry')
end

-- Sets a job aside. The letter has all that is needed to go on.
local function job_bury(record, name, error)
  local fields = redis.call('HMGET', record, 'job', 'since', 'at', 'feeds', 'cold', 'seen', 'audience', 'tries')
  redis.call('XADD', DEAD, '*', 'job', fields[1], 'since', fields[2], 'at', fields[3], 'feeds', fields[4],
    'cold', fields[5], 'seen', fields[6], 'audience', fields[7], 'tries', fields[8], 'error', error)
  job_close(record, name)
  redis.call('HSET', record, 'state', 'failed')
end

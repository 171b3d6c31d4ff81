-- include: clock
-- Count the jobs of shards.
-- KEYS  the tags of the shards; one where each shard has a slot of its own
-- ARGV  nothing
-- Returns for each shard {jobs that their own processes do, queued jobs, running jobs, dead
--         letters, Unix milliseconds, followers that workers reached in the last minute, end of the
--         oldest lease of an own process or '', then of the oldest job in the queue: job, since,
--         feeds, cold, attempts}
-- Repeat: only reads.
local BUCKET_MS, BUCKETS = 10000, 6 -- the ends of REACHED's keys, in a minute

local function followers_reached(now_ms)
  local count, bucket_now = 0, math.floor(now_ms / BUCKET_MS)
  for bucket = bucket_now - BUCKETS, bucket_now - 1 do
    count = count + tonumber(redis.call('GET', key(REACHED, string.format('%.0f', bucket))) or 0)
  end
  return count
end

local results = {}
for i, tag in ipairs(KEYS) do
  use(tag)
  local now_ms = clock_ms()
  local queued = redis.call('ZCARD', JOBS) + redis.call('ZCARD', REDO)
  local first_due = redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2] or ''
  local status = {redis.call('ZCARD', DUE), queued, redis.call('ZCARD', RUNNING),
    redis.call('XLEN', DEAD), now_ms, followers_reached(now_ms), first_due}
  local oldest = redis.call('ZRANGE', JOBS, 0, 0)[1]
  if oldest then
    local fields = redis.call('HMGET', key(JOB, oldest), 'job', 'since', 'feeds', 'cold', 'tries')
    for _, field in ipairs(fields) do status[#status + 1] = field end
  end
  results[i] = status
end
return results

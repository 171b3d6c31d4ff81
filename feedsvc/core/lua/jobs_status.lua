-- include: clock jobs queue
-- Says how the jobs of shards stand.
-- KEYS  the tags of shards; one, where each shard has a slot of its own
-- ARGV  nothing
-- Returns for each {inline, queued, running, dead, now in ms, followers reached in the last minute, when the oldest that
--         is being done inline will be overdue ('' if there is none), then of the oldest in the queue: job, since, feeds, cold, tries}
local all = {}
for i = 1, #KEYS do
  use(KEYS[i])
  local now, reached = clock_ms(), 0
  for bucket = math.floor(now / 10000) - 6, math.floor(now / 10000) - 1 do
    reached = reached + tonumber(redis.call('GET', key(REACHED, string.format('%.0f', bucket))) or 0)
  end
  local status = {redis.call('ZCARD', DUE), redis.call('ZCARD', JOBS) + redis.call('ZCARD', REDO), redis.call('ZCARD', RUNNING),
    redis.call('XLEN', DEAD), now, reached, redis.call('ZRANGE', DUE, 0, 0, 'WITHSCORES')[2] or ''}
  local oldest = redis.call('ZRANGE', JOBS, 0, 0)[1]
  if oldest then
    local record = key(JOB, oldest)
    for _, field in ipairs(redis.call('HMGET', record, 'job', 'since', 'feeds', 'cold', 'tries')) do
      status[#status + 1] = field
    end
  end
  all[i] = status
end
return all

-- Live logs. An entity is live while its lease runs; only then does anybody write its log. Entries are numbered
-- 1, 2, 3, ... and carry the store's clock as a nonce, <n>-<microseconds>, so that a log which lost its tail or
-- was made anew is told from the one that a token knew. The log of a feed has the user's name; see keys.py for others.
local GRACE_MS = 60000
local woken

local function log_close(entity)
  redis.call('DEL', cache_key(LOG, entity), cache_key(SEEN, entity), cache_key(SEEN_BEFORE, entity))
  redis.call('ZREM', LIVE, entity)
end

-- The end of the lease of a log, nil if there is none. One that ran out takes the log with it there and then: what
-- happens from now on would be missing.
local function leased(entity)
  local deadline = tonumber(redis.call('ZSCORE', LIVE, entity) or nil)
  if not deadline then return nil end
  if deadline * 1000 > clock_us() then return deadline end
  log_close(entity)
end

-- Whether an entity is live, and so has a log.
local function is_live(entity)
  if not leased(entity) then return false end
  if redis.call('EXISTS', cache_key(LOG, entity)) == 1 then return true end
  log_close(entity)
  return false
end

local function log_tail(entity)
  local last = redis.call('XREVRANGE', cache_key(LOG, entity), '+', '-', 'COUNT', 1)[1]
  return last and last[1]
end

-- Appends an event to the log of an entity that has a lease. `route`: which entity brought an added activity, or whose
-- the removed one was, which logs of outboxes tell.
local function log_write(entity, kind, what, route)
  local tail = log_tail(entity)
  if not tail then return log_close(entity) end -- it is not live: its log was taken away
  local number = tonumber(tail:match('^%d+')) + 1
  redis.call('XADD', cache_key(LOG, entity), 'MAXLEN', '~', LOG_CAP,
    string.format('%.0f-%.0f', number, clock_us()), kind, what, 'v', route or '')
  if woken then woken[#woken + 1] = entity else redis.call('PUBLISH', WAKE, entity) end
end

-- Wakes those who follow logs of the shard that `woken` names, by one message. A script that writes to many sets it first.
local function wake_all()
  if woken[1] then redis.call('PUBLISH', WAKE, table.concat(woken, '\0')) end
  woken = {}
end

-- The same, unless it was told before: deliveries are repeated, events are not. `mark` is an integer.
local function log_once(entity, mark, kind, what, route)
  local seen, before = cache_key(SEEN, entity), cache_key(SEEN_BEFORE, entity)
  if redis.call('SISMEMBER', before, mark) == 1 or redis.call('SADD', seen, mark) == 0 then return 0 end
  local count = redis.call('SCARD', seen)
  if count == 1 then redis.call('PEXPIRE', seen, LEASE_MS + GRACE_MS) end
  if count > SEEN_CAP then redis.call('RENAME', seen, before) end
  log_write(entity, kind, what, route)
  return 1
end

local function log_added(entity, id, route) return log_once(entity, id, 'a', id, route) end
local function log_removed(entity, id, about) return log_once(entity, '-' .. id, 'r', id, about) end

local function log_renew(entity)
  -- Only ahead, though the clock is set back: tell.lua goes through the leases in their order.
  redis.call('ZADD', LIVE, 'GT', string.format('%.0f', clock_us() / 1000 + LEASE_MS), entity)
  redis.call('PEXPIRE', cache_key(LOG, entity), LEASE_MS + GRACE_MS)
  redis.call('PEXPIRE', cache_key(SEEN, entity), LEASE_MS + GRACE_MS)
  redis.call('PEXPIRE', cache_key(SEEN_BEFORE, entity), LEASE_MS + GRACE_MS)
end

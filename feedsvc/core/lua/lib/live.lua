-- include: clock
-- Live logs. An entity is live while its lease runs; scripts write its log only then. Entries have
-- the numbers 1, 2, 3, ... and the store's clock as a nonce, <n>-<microseconds>: the nonce tells a
-- log that lost its tail or was created again from the log that a token knows. The log of a feed
-- has the user's name; keys.py has the names of other logs.
local GRACE_MS = 60000
-- The logs of the current shard that have grown. A script that writes many logs sets the list
-- first; without it each entry wakes its streams at once.
local grown_logs

local function log_close(entity)
  redis.call('DEL', cache_key(LOG, entity), cache_key(SEEN, entity), cache_key(SEEN_BEFORE, entity))
  redis.call('ZREM', LIVE, entity)
end

-- Return the end of a log's lease in Unix milliseconds; nil if the log has no lease. Close a log
-- whose lease has run out: scripts do not write the log any more, so it would lack events.
local function leased(entity)
  local deadline = tonumber(redis.call('ZSCORE', LIVE, entity) or nil)
  if not deadline then return nil end
  if deadline * 1000 > clock_us() then return deadline end
  log_close(entity)
end

-- Return whether an entity is live and has a log.
local function is_live(entity)
  if not leased(entity) then return false end
  if redis.call('EXISTS', cache_key(LOG, entity)) == 1 then return true end
  log_close(entity)
  return false
end

-- Return the position of the last entry; nil if there is no log.
local function log_tail(entity)
  local last = redis.call('XREVRANGE', cache_key(LOG, entity), '+', '-', 'COUNT', 1)[1]
  return last and last[1]
end

-- Append an entry to the log of an entity that has a lease. `route` is the entity whose outbox
-- brought an added activity. In the log of an outbox, the `route` of a removed activity is its
-- actor, NUL and its external id.
local function log_append(entity, kind, subject, route)
  local tail = log_tail(entity)
  if not tail then return log_close(entity) end -- the store took the log away: the lease is void
  local number = tonumber(tail:match('^%d+')) + 1
  redis.call('XADD', cache_key(LOG, entity), 'MAXLEN', '~', LOG_CAP,
    string.format('%.0f-%.0f', number, clock_us()), kind, subject, 'v', route or '')
  if grown_logs then
    grown_logs[#grown_logs + 1] = entity
  else
    redis.call('PUBLISH', WAKE, entity)
  end
end

-- Wake the streams of the logs that have grown in the current shard, by one message.
local function wake_grown()
  if grown_logs[1] then redis.call('PUBLISH', WAKE, table.concat(grown_logs, '\0')) end
  grown_logs = {}
end

-- Append an entry unless the log has had its `mark`, an integer: deliveries are repeated, entries
-- are not.
local function log_append_once(entity, mark, kind, subject, route)
  local seen, before = cache_key(SEEN, entity), cache_key(SEEN_BEFORE, entity)
  if redis.call('SISMEMBER', before, mark) == 1 or redis.call('SADD', seen, mark) == 0 then
    return
  end
  local count = redis.call('SCARD', seen)
  if count == 1 then redis.call('PEXPIRE', seen, LOG_LEASE_MS + GRACE_MS) end
  if count > SEEN_CAP then redis.call('RENAME', seen, before) end
  log_append(entity, kind, subject, route)
end

-- Announce an activity that was added to, or removed from, the feed or outbox of a log.
local function announce_added(entity, id, route) log_append_once(entity, id, 'a', id, route) end
local function announce_removed(entity, id, route)
  log_append_once(entity, '-' .. id, 'r', id, route)
end

local function lease_renew(entity)
  -- Only ahead, also after the clock was set back: announce.lua goes through the leases in their
  -- order.
  redis.call('ZADD', LIVE, 'GT', string.format('%.0f', clock_us() / 1000 + LOG_LEASE_MS), entity)
  redis.call('PEXPIRE', cache_key(LOG, entity), LOG_LEASE_MS + GRACE_MS)
  redis.call('PEXPIRE', cache_key(SEEN, entity), LOG_LEASE_MS + GRACE_MS)
  redis.call('PEXPIRE', cache_key(SEEN_BEFORE, entity), LOG_LEASE_MS + GRACE_MS)
end

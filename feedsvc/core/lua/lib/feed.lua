-- include: packed
-- Delivery to warm feeds and to their deep segments. A deep segment is a part of the feed between a
-- floor and a ceiling, kept for a while for readers below the stored ids. It is a list [head,
-- spent, id, id, ...], ascending. The head is '!nonce' while the segment is being built. Then the
-- head is 'floor ceiling outbox_floor allowance length', and the sources that are not in the
-- segment, with a NUL before each.
--
-- The list has the ids above its floor and up to its ceiling of all outboxes whose edges are PUSH,
-- without the few outboxes that hold the most ids: readers merge these few outboxes, and the
-- outboxes of PULL edges. No other outbox can have trimmed an id of the segment until more than
-- `allowance` ids were delivered. `spent` counts the ids that came below the warm feed, or were
-- trimmed from it, since the build; `length` is the number of elements that the warm feed had.
local MAX_LATE = 1000 -- ids that may come late while a segment is being built

local function deep_spend(deep, head, count)
  local spent = redis.call('LINDEX', deep, 1) + count
  if head:byte() ~= MARKER and spent > tonumber(head:match('^%d+ %d+ %d+ (%d+)')) then
    redis.call('DEL', deep)
  else
    redis.call('LSET', deep, 1, spent)
  end
end

local function deep_insert(deep, id)
  local length = redis.call('LLEN', deep)
  local tail = length > 2 and redis.call('LINDEX', deep, -1) or ''
  if tail < id then return redis.call('RPUSH', deep, id) end
  local above = redis.call('LINDEX', deep, packed_index(deep, id, 1, length - 1))
  if above ~= id then redis.call('LINSERT', deep, 'BEFORE', above, id) end
end

-- Note an id that a source delivers far below the end of the warm feed, or below all of the feed.
local function deep_late(user, id, source, is_below)
  local deep = cache_key(DEEP, user)
  local head = redis.call('LINDEX', deep, 0)
  if not head then return end
  if head:byte() == MARKER then
    if redis.call('RPUSH', deep, id .. '\0' .. source) > MAX_LATE then redis.call('DEL', deep) end
    return
  end
  local floor, ceiling = head:match('^(%d+) (%d+)')
  if id <= floor then return end
  if id <= ceiling and not head:find('\0' .. source .. '\0', 1, true)
    and redis.call('SISMEMBER', key(PULLED, user), source) == 0 then deep_insert(deep, id) end
  if is_below then deep_spend(deep, head, 1) end
end

-- Deliver an id to a user's warm feed, and to the deep segment if the id belongs there.
-- `is_newest`: the id is greater than all others. Return as packed_insert does.
local function feed_insert(user, id, source, is_newest)
  local insert = is_newest and packed_append_newest or packed_insert
  local outcome, cost, _, trimmed = insert(cache_key(FEED, user), id, FEED_CAP, FEED_MAX)
  if outcome == BELOW or cost == FAR then deep_late(user, id, source, outcome == BELOW) end
  if trimmed then
    local deep = cache_key(DEEP, user)
    local head = redis.call('LINDEX', deep, 0)
    if head then deep_spend(deep, head, trimmed) end
  end
  return outcome, cost
end

-- Replace a feed by a warm feed with these ids above the floor.
local function feed_rewrite(user, ids, floor, ttl_ms)
  local feed = cache_key(FEED, user)
  packed_rewrite(feed, ids, floor)
  if #ids > FEED_MAX then packed_trim(feed, FEED_CAP) end
  redis.call('PEXPIRE', feed, ttl_ms)
end

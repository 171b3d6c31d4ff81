-- include: packed
-- The deep segment of a feed as readers use it. feed.lua says what a deep segment is.

-- Return the head of a user's warm feed; false or nil if the feed is not warm.
local function warm_head(user)
  local head = redis.call('LINDEX', cache_key(FEED, user), 0)
  return head and head:byte() ~= MARKER and head
end

-- Return the segment's head, and the index of its first element at or beyond a cursor. Return nil
-- if no segment serves the page. `top` is the greatest id that a page towards older ids may have.
local function deep_serving(user, is_older, cursor, top)
  local deep = cache_key(DEEP, user)
  local head, spent = unpack(redis.call('LRANGE', deep, 0, 1))
  if not head or head:byte() == MARKER or not warm_head(user) then return nil end
  local floor, ceiling, _, allowance, length = head:match('^(%d+) (%d+) (%d+) (%d+) (%d+)')
  if spent + redis.call('LLEN', cache_key(FEED, user)) - length > tonumber(allowance) then
    return nil
  end
  if is_older then
    if top > ceiling or top <= floor then return nil end
  elseif cursor < floor or cursor >= ceiling then
    return nil
  end
  local size = redis.call('LLEN', deep)
  local index = size
  if size > 2 and redis.call('LINDEX', deep, -1) >= cursor then
    index = packed_index(deep, cursor, 1, size - 1)
    if not is_older and redis.call('LINDEX', deep, index) == cursor then index = index + 1 end
  end
  return head, index
end

-- The deep segment of a feed, see feed.lua, as readers find it. Needs packed.lua.

-- The head of a user's warm feed; nothing if it is not warm.
local function warm_head(user)
  local head = redis.call('LINDEX', cache_key(FEED, user), 0)
  return head and head:byte() ~= MARKER and head
end

-- The head and the first place beyond a cursor of the segment that serves a page; nil if there is none. `top`: the
-- greatest id that a page towards older ids may have.
local function deep_serving(user, older, cursor, top)
  local deep = cache_key(DEEP, user)
  local head, spent = unpack(redis.call('LRANGE', deep, 0, 1))
  if not head or head:byte() == MARKER or not warm_head(user) then return nil end
  local floor, ceiling, _, allowance, length = head:match('^(%d+) (%d+) (%d+) (%d+) (%d+)')
  if spent + redis.call('LLEN', cache_key(FEED, user)) - length > tonumber(allowance) then return nil end
  if older then
    if top > ceiling or top <= floor then return nil end
  elseif cursor < floor or cursor >= ceiling then
    return nil
  end
  local size = redis.call('LLEN', deep)
  local place = size
  if size > 2 and redis.call('LINDEX', deep, -1) >= cursor then
    place = packed_place(deep, cursor, 1, size - 1)
    if not older and redis.call('LINDEX', deep, place) == cursor then place = place + 1 end
  end
  return head, place
end

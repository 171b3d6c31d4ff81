-- include: clock live followers
-- Tells the live logs of an author's followers in some shards of an activity.
-- KEYS  the tags of the followers' shards; one, where each shard has a slot of its own
-- ARGV  author, activity id, 'added' or 'removed', work budget, then for each shard the position to continue after
--       ('-inf' at first)
-- Returns for each {position to continue after ('' when done), entities looked at}
--
-- It goes through the fewer of both: the author's followers ('w' and their position) or the live entities ('v' and the end
-- of their lease). Followers that come meanwhile have greater positions. A lease that is renewed meanwhile only moves ahead.
local author, id, budget = ARGV[1], ARGV[2], tonumber(ARGV[4])
local log, spent = ARGV[3] == 'added' and log_added or log_removed, 0

local function tell_one(entity)
  if not leased(entity) then return end
  log(entity, id, author)
  spent = spent + 6
end

local function tell_followers(position, count)
  local followers, many = followers_after(author, position, count)
  if not followers[1] then return {'', 0} end
  local leases = redis.call('ZMSCORE', LIVE, unpack(followers))
  local last = #followers
  for i, follower in ipairs(followers) do
    spent = spent + 1
    if leases[i] then tell_one(follower) end
    if many and spent >= budget then
      last = i
      break
    end
  end
  if not many or last < count and last == #followers then return {'', last} end
  return {'w' .. redis.call('ZSCORE', key(FOLLOWERS, author), followers[last]), last}
end

local function tell_live(position, count)
  local from = position == '-inf' and position or '(' .. position
  local found = redis.call('ZRANGEBYSCORE', LIVE, from, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
  local reached = #found == 2 * count and found[#found] or ''
  if reached ~= '' then -- whole leases only: more may have the same
    found = redis.call('ZRANGEBYSCORE', LIVE, from, reached, 'WITHSCORES')
  end
  for i = 1, #found, 2 do
    if spent >= budget and found[i + 1] ~= found[i - 1] then return {'v' .. found[i - 1], (i - 1) / 2} end
    spent = spent + 1
    if redis.call('HEXISTS', key(EDGES, found[i]), author) == 1 then tell_one(found[i]) end
  end
  return {reached ~= '' and 'v' .. reached or '', #found / 2}
end

local function tell(position)
  if spent >= budget then return {position, 0} end
  local live, side = redis.call('ZCARD', LIVE), position:sub(1, 1)
  if live == 0 then return {'', 0} end
  if side == '-' then
    side = followers_count(author) < live and 'w' or 'v'
    position = side .. position
  end
  return (side == 'w' and tell_followers or tell_live)(position:sub(2), budget - spent)
end

local results = {}
woken = {}
for i = 1, #KEYS do
  use(KEYS[i])
  results[i] = tell(ARGV[4 + i])
  wake_all()
end
return results

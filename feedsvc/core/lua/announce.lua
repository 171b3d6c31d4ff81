-- include: followers live
-- Announce an activity to the live logs of an author's followers in some shards.
-- KEYS  the tags of the followers' shards; one where each shard has a slot of its own
-- ARGV  author, activity id, 'added' or 'removed', work budget, then for each shard the position to
--       continue after ('-inf' at first)
-- Returns for each shard {position to continue after ('' when done), entities looked at}
-- Repeat: a log announces an activity once, and the positions are the same.
--
-- The script goes through the smaller set: the author's followers (a position is 'w' and a position
-- of an edge) or the live entities (a position is 'v' and the end of a lease). Followers that come
-- meanwhile have greater positions. A lease that is renewed meanwhile only moves ahead.
local author, id, is_added, budget = ARGV[1], ARGV[2], ARGV[3] == 'added', tonumber(ARGV[4])
local POSITIONS = 4
local announce_to = is_added and announce_added or announce_removed
local spent = 0

local function announce_if_live(entity)
  if not leased(entity) then return end
  announce_to(entity, id, author)
  spent = spent + 6
end

local function announce_to_followers(position, count)
  local followers, are_many = followers_after(author, position, count)
  if not followers[1] then return {'', 0} end
  local leases = redis.call('ZMSCORE', LIVE, unpack(followers))
  local last = #followers
  for i, follower in ipairs(followers) do
    spent = spent + 1
    if leases[i] then announce_if_live(follower) end
    if are_many and spent >= budget then
      last = i
      break
    end
  end
  if not are_many or last < count and last == #followers then return {'', last} end
  return {'w' .. redis.call('ZSCORE', key(FOLLOWERS, author), followers[last]), last}
end

local function announce_to_live(position, count)
  local from = position == '-inf' and position or '(' .. position
  -- Entity, end of its lease, ...
  local live = redis.call('ZRANGEBYSCORE', LIVE, from, '+inf', 'WITHSCORES', 'LIMIT', 0, count)
  local reached = #live == 2 * count and live[#live] or ''
  if reached ~= '' then -- read all leases with this end: the position cannot name one lease
    live = redis.call('ZRANGEBYSCORE', LIVE, from, reached, 'WITHSCORES')
  end
  for i = 1, #live, 2 do
    local entity, lease_end, end_before = live[i], live[i + 1], live[i - 1]
    if spent >= budget and lease_end ~= end_before then return {'v' .. end_before, (i - 1) / 2} end
    spent = spent + 1
    if redis.call('HEXISTS', key(EDGES, entity), author) == 1 then announce_if_live(entity) end
  end
  return {reached ~= '' and 'v' .. reached or '', #live / 2}
end

local function announce_in_shard(position)
  if spent >= budget then return {position, 0} end
  local live_count, side = redis.call('ZCARD', LIVE), position:sub(1, 1)
  if live_count == 0 then return {'', 0} end
  if side == '-' then
    side = followers_count(author) < live_count and 'w' or 'v'
    position = side .. position
  end
  local announce = side == 'w' and announce_to_followers or announce_to_live
  return announce(position:sub(2), budget - spent)
end

local results = {}
grown_logs = {}
for i, tag in ipairs(KEYS) do
  use(tag)
  results[i] = announce_in_shard(ARGV[POSITIONS + i])
  wake_grown()
end
return results

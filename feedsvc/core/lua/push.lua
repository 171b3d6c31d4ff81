-- include: packed live followers
-- Delivers an activity to the warm feeds of an author's followers in some shards, and to the logs of live ones.
-- KEYS  the tags of the followers' shards; one, where each shard has a slot of its own
-- ARGV  author, activity id, 'added' or 'removed', then for each shard the position to continue after ('-inf' at first)
-- Returns for each {position to continue after ('' when done), warm feeds that it was put into, cold feeds skipped}
--
-- That a follower stands in the index means that the edge is there: both change in one step. An edge that is
-- PULL is delivered to all the same, so that it can be flipped to PUSH meanwhile. Doing it again changes nothing.
local author, id, added = ARGV[1], ARGV[2], ARGV[3] == 'added'
local log, spent = added and log_added or log_removed, 0

local function push(position)
  if spent >= PUSH_CHUNK then return {position, 0, 0} end
  local any_live, count = redis.call('EXISTS', LIVE) == 1, PUSH_CHUNK - spent
  if not added and not any_live then return {'', 0, 0} end
  local followers, many = followers_after(author, position, count)
  local function position_at(i) return redis.call('ZSCORE', key(FOLLOWERS, author), followers[i]) end
  local delivered, cold = 0, 0
  for i = 1, #followers do
    if many and spent >= PUSH_CHUNK then return {position_at(i - 1), delivered, cold} end
    local follower, cost = followers[i], 1
    if added then
      local outcome
      outcome, cost = packed_insert(key(FEED, follower), id, FEED_CAP, FEED_MOST)
      if outcome == COLD then cold = cold + 1 elseif outcome == ADDED then delivered = delivered + 1 end
    end
    if any_live and is_live(follower) then
      log(follower, id)
      cost = cost + 6
    end
    spent = spent + cost
  end
  return {many and #followers == count and position_at(#followers) or '', delivered, cold}
end

local results = {}
for i = 1, #KEYS do
  use(KEYS[i])
  results[i] = push(ARGV[3 + i])
end
return results

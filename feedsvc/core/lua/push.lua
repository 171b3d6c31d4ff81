-- include: packed live followers
-- Delivers an activity to the warm feeds of an author's followers in this shard, and to the logs of live ones.
-- KEYS  the tag of the followers' shard
-- ARGV  author, activity id, position to continue after ('-inf' at first), 'added' or 'removed'
-- Returns {position to continue after ('' when done), warm feeds that it was put into, cold feeds skipped}
--
-- That a follower stands in the index means that the edge is there: both change in one step. An edge that is
-- PULL is delivered to all the same, so that it can be flipped to PUSH meanwhile. Doing it again changes nothing.
local author, id, position, added = ARGV[1], ARGV[2], ARGV[3], ARGV[4] == 'added'
local any_live = redis.call('EXISTS', LIVE) == 1
if not added and not any_live then return {'', 0, 0} end
local followers = followers_after(author, position)
local log = added and log_added or log_removed
local delivered, cold, spent = 0, 0, 0
local function position_at(i) return redis.call('ZSCORE', key(FOLLOWERS, author), followers[i]) end
for i = 1, #followers do
  if spent >= PUSH_CHUNK and #followers > FEW then return {position_at(i - 1), delivered, cold} end
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
return {#followers < PUSH_CHUNK and '' or position_at(#followers), delivered, cold}

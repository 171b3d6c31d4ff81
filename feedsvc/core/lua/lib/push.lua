-- Pushing an activity to the warm feeds and the live logs of followers. Needs feed.lua, live.lua and followers.lua.

-- Whether anybody is live in some shards, given by their tags.
local function any_live_in(shards)
  local leases = {}
  for i, tag in ipairs(shards) do
    use(tag)
    leases[i] = LIVE
  end
  return leases[1] and redis.call('EXISTS', unpack(leases)) > 0
end

-- Pushes to the followers in this shard beyond a position, for about so much work. Returns
-- {position to continue after ('' when done), warm feeds that it was put into, cold feeds skipped, followers}, and the
-- work that is left. `newest`: the id is greater than all others. That a follower stands in the index means that the edge is there: both change in one step. An edge
-- that is PULL is delivered to all the same, so that it can be flipped to PUSH meanwhile. Doing it again changes nothing.
local function push(author, id, position, budget, any_live, newest)
  if budget <= 0 then return {position, 0, 0, 0}, 0 end
  local followers, many = followers_after(author, position, budget)
  local delivered, cold, left = 0, 0, budget
  for i = 1, #followers do
    if many and left <= 0 then
      return {redis.call('ZSCORE', key(FOLLOWERS, author), followers[i - 1]), delivered, cold, i - 1}, 0
    end
    local follower = followers[i]
    local outcome, cost = feed_insert(follower, id, author, newest)
    if outcome == COLD then cold = cold + 1 elseif outcome == ADDED then delivered = delivered + 1 end
    if any_live and leased(follower) then
      log_added(follower, id, author)
      cost = cost + 6
    end
    left = left - cost
  end
  local reached = ''
  if many and #followers == budget then
    reached = redis.call('ZSCORE', key(FOLLOWERS, author), followers[budget])
    if tonumber(reached) >= tonumber(followers_last(author)) then reached = '' end
  end
  return {reached, delivered, cold, #followers}, left
end

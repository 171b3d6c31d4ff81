-- include: feed followers live packed
-- Pushes an activity to the warm feeds and the live logs of followers.

-- Return whether any entity is live in the shards with these tags. The last shard becomes the
-- current shard.
local function is_any_live(tags)
  local leases = {}
  for i, tag in ipairs(tags) do
    use(tag)
    leases[i] = LIVE
  end
  return leases[1] and redis.call('EXISTS', unpack(leases)) > 0
end

-- Push to the followers in this shard beyond a position, for about as much work as the budget says.
-- Return {position to continue after ('' when done), warm feeds that have the activity now, cold
-- feeds, followers}, and the remaining budget. `is_newest`: the id is greater than all others.
--
-- A follower in the index has the edge: one step changes both. The push delivers over PULL edges
-- too, so that they can be flipped to PUSH meanwhile. A repeated push changes nothing.
local function push(author, id, position, budget, any_live, is_newest)
  if budget <= 0 then return {position, 0, 0, 0}, 0 end
  local followers, are_many = followers_after(author, position, budget)
  local delivered, cold, remaining = 0, 0, budget
  for i = 1, #followers do
    if are_many and remaining <= 0 then
      local reached = redis.call('ZSCORE', key(FOLLOWERS, author), followers[i - 1])
      return {reached, delivered, cold, i - 1}, 0
    end
    local follower = followers[i]
    local outcome, cost = feed_insert(follower, id, author, is_newest)
    if outcome == COLD then cold = cold + 1 end
    if outcome == ADDED then delivered = delivered + 1 end
    if any_live and leased(follower) then
      announce_added(follower, id, author)
      cost = cost + 6
    end
    remaining = remaining - cost
  end
  local reached = ''
  if are_many and #followers == budget then
    reached = redis.call('ZSCORE', key(FOLLOWERS, author), followers[budget])
    if tonumber(reached) >= tonumber(followers_last(author)) then reached = '' end
  end
  return {reached, delivered, cold, #followers}, remaining
end

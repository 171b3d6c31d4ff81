-- The greatest id that any outbox or feed has ever held, where all shards are on one node. A
-- greater id goes to the end of each list without a look at the list. A script that puts an id from
-- outside the store into a list raises the greatest id first.

-- Return the greatest id. Return nil where each shard has a node of its own: no node knows the ids
-- of the others.
local function latest_id() return ONE_NODE and (redis.call('GET', LATEST) or '0') or nil end

local function latest_raise(id)
  local latest = latest_id()
  if latest and latest < id then redis.call('SET', LATEST, id) end
end

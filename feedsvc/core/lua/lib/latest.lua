-- On one node: the greatest id that any outbox or feed has ever held. Whatever is greater goes to the end of each of them,
-- without a look. Every script that brings an id from outside the store into a list raises it first.

-- nil where each shard has a node of its own: nothing is known of all.
local function latest_id() return ONE_NODE and (redis.call('GET', LATEST) or '0') or nil end

local function latest_raise(id)
  local latest = latest_id()
  if latest and latest < id then redis.call('SET', LATEST, id) end
end

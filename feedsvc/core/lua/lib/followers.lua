-- The followers of an entity in this shard. A few followers are a text of their numbers, three
-- bytes each, oldest edge first, in a bucket that many entities share: a key for each entity would
-- take more memory than the text. Many followers are a sorted set of names by position. The sorted
-- set stays until the last follower leaves.
local FEW = math.min(20, PUSH_CHUNK - 1)
-- The greatest number of a follower. When all numbers are taken, a new follower has no number and
-- is never one of a few followers.
local LAST_NUMBER = 2 ^ 24 - 1
-- Lists in a bucket, on average: the store packs a hash with up to twice as many, and packs each
-- list.
local BUCKET_LISTS = 50

-- The entity of the last lookup, the hash of its name, the number of buckets, and its bucket among
-- them: a push looks the same entity up in every shard.
local hashed_entity, entity_hash, hashed_buckets, hashed_bucket

-- Return the number of buckets in the greatest full level: buckets are split one at a time, in turn
-- (linear hashing).
local function bucket_level(buckets)
  local level = 1
  while level * 2 <= buckets do level = level * 2 end
  return level
end

-- Return the key of an entity's bucket.
local function bucket_of(entity, buckets)
  if entity ~= hashed_entity or buckets ~= hashed_buckets then
    if entity ~= hashed_entity then
      hashed_entity, entity_hash = entity, tonumber(redis.sha1hex(entity):sub(1, 8), 16)
    end
    local level = bucket_level(buckets)
    local bucket = entity_hash % (level * 2)
    if bucket >= buckets then bucket = entity_hash % level end
    hashed_buckets, hashed_bucket = buckets, string.format('%.0f', bucket)
  end
  return key(FEW_FOLLOWERS, hashed_bucket)
end

local function count_buckets() return tonumber(redis.call('HGET', TALLIES, 'buckets') or 1) end

-- The number of buckets in the shard of the last lookup. Other shards have about as many.
local last_buckets

-- Return the bucket of a followee, and the numbers of its followers if they are few. A list is in
-- one bucket only: the script may find the list by another shard's number of buckets.
local function few_followers(followee)
  if last_buckets then
    local bucket = bucket_of(followee, last_buckets)
    local numbers = redis.call('HGET', bucket, followee)
    if numbers then return bucket, numbers end
  end
  last_buckets = count_buckets()
  local bucket = bucket_of(followee, last_buckets)
  return bucket, redis.call('HGET', bucket, followee)
end

-- Count a new list, and split a bucket if the buckets are full.
local function bucket_list_added()
  local buckets = count_buckets()
  if redis.call('HINCRBY', TALLIES, 'lists', 1) <= buckets * BUCKET_LISTS then return end
  redis.call('HSET', TALLIES, 'buckets', buckets + 1)
  local split = key(FEW_FOLLOWERS, buckets - bucket_level(buckets))
  local lists = redis.call('HGETALL', split)
  -- Delete and rewrite the bucket: a hash that outgrew its packed form never returns to it.
  redis.call('DEL', split)
  for i = 1, #lists, 2 do
    redis.call('HSET', bucket_of(lists[i], buckets + 1), lists[i], lists[i + 1])
  end
end

local function bucket_list_remove(bucket, followee)
  redis.call('HDEL', bucket, followee)
  redis.call('HINCRBY', TALLIES, 'lists', -1)
end

-- Return the number of a follower of this shard, in three bytes. A follower keeps its number for
-- good. Return nil if no number is free.
local function follower_number(follower)
  local number = redis.call('HGET', key(EDGES, follower), NUMBER)
  if not number then
    if tonumber(redis.call('HGET', TALLIES, 'numbers') or 0) >= LAST_NUMBER then return nil end
    number = redis.call('HINCRBY', TALLIES, 'numbers', 1)
    redis.call('HSET', key(EDGES, follower), NUMBER, number)
    redis.call('HSET', key(NAMES, math.floor(number / 100)), number % 100, follower)
  end
  return struct.pack('>I3', tonumber(number))
end

local function follower_names(numbers)
  local names = {}
  for i = 1, #numbers, 3 do
    local number = struct.unpack('>I3', numbers, i)
    names[#names + 1] = redis.call('HGET', key(NAMES, math.floor(number / 100)), number % 100)
  end
  return names
end

local function edge_position(follower, followee)
  return redis.call('HGET', key(EDGES, follower), followee)
end

-- Return the greatest position among the followers; false if there are none.
local function followers_last(followee)
  local last = redis.call('ZREVRANGE', key(FOLLOWERS, followee), 0, 0, 'WITHSCORES')[2]
  if last then return last end
  local _, numbers = few_followers(followee)
  return numbers and edge_position(follower_names(numbers:sub(-3))[1], followee)
end

-- Add a new follower with the greatest position. Return the number of followers.
local function followers_add(followee, follower, position)
  local index = key(FOLLOWERS, followee)
  if redis.call('EXISTS', index) == 0 then
    local bucket, numbers = few_followers(followee)
    local number = #(numbers or '') < 3 * FEW and follower_number(follower)
    if number then
      redis.call('HSET', bucket, followee, (numbers or '') .. number)
      if not numbers then bucket_list_added() end
      return #(numbers or '') / 3 + 1
    end
    if numbers then
      for _, name in ipairs(follower_names(numbers)) do
        redis.call('ZADD', index, edge_position(name, followee), name)
      end
      bucket_list_remove(bucket, followee)
    end
  end
  redis.call('ZADD', index, position, follower)
  return redis.call('ZCARD', index)
end

local function followers_count(followee)
  local count = redis.call('ZCARD', key(FOLLOWERS, followee))
  if count > 0 then return count end
  local _, numbers = few_followers(followee)
  return #(numbers or '') / 3
end

local function followers_remove(followee, follower)
  if redis.call('ZREM', key(FOLLOWERS, followee), follower) == 1 then return end
  local bucket, numbers = few_followers(followee)
  if not numbers then return end
  local number, remaining = follower_number(follower), {}
  for i = 1, #numbers, 3 do
    if numbers:sub(i, i + 2) ~= number then remaining[#remaining + 1] = numbers:sub(i, i + 2) end
  end
  if #remaining > 0 then
    redis.call('HSET', bucket, followee, table.concat(remaining))
  else
    bucket_list_remove(bucket, followee)
  end
end

-- Return the number of followees of an entity.
local function followees_count(entity)
  local edges = key(EDGES, entity)
  local count = redis.call('HLEN', edges)
  for _, value in ipairs(redis.call('HMGET', edges, GENERATION, NUMBER, SHARDS, MODE)) do
    if value then count = count - 1 end
  end
  return count
end

-- Return up to `count` followers beyond a position ('-inf' at first), oldest first, and whether the
-- followers are many. A few followers have no positions here, and come all at once.
local function followers_after(followee, position, count)
  if position == '-inf' then
    local _, numbers = few_followers(followee)
    if numbers then return follower_names(numbers), false end
  end
  return redis.call('ZRANGEBYSCORE', key(FOLLOWERS, followee),
    '(' .. position, '+inf', 'LIMIT', 0, count), true
end

-- The followers of an entity in this shard. Few of them are a string of their numbers, three bytes each, oldest edge
-- first, in a bucket that many entities share: a key of its own would take more memory than they do. Many are a
-- sorted set of names by position. What became many stays so until the last one leaves.
local FEW = math.min(20, PUSH_CHUNK - 1)
-- The greatest number. Followers that get none, because so many have one, are never among few.
local LAST_NUMBER = 2 ^ 24 - 1
-- Lists a bucket, on average: between one and two times as many are within what the store packs, and so is a list.
local BUCKET = 50

-- The last entity that was looked for, among how many buckets, and where: a push asks for the same one in every shard.
local hashed, hash, hashed_among, hashed_place

-- The bucket of an entity. Buckets are split one at a time, in turn (linear hashing).
local function bucket_of(entity, buckets)
  if entity ~= hashed or buckets ~= hashed_among then
    if entity ~= hashed then hashed, hash = entity, tonumber(redis.sha1hex(entity):sub(1, 8), 16) end
    local level = 1
    while level * 2 <= buckets do level = level * 2 end
    local place = hash % (level * 2)
    hashed_among, hashed_place = buckets, string.format('%.0f', place < buckets and place or hash % level)
  end
  return key(FEW_FOLLOWERS, hashed_place)
end

local function buckets_now() return tonumber(redis.call('HGET', TALLIES, 'buckets') or 1) end

-- How many buckets the shard that was last asked has. Other shards have about as many.
local buckets

-- The bucket of a followee, and the numbers of its followers, if they are few. A list is in one bucket only: found by
-- another shard's count, it is the right one.
local function few_followers(followee)
  if buckets then
    local bucket = bucket_of(followee, buckets)
    local numbers = redis.call('HGET', bucket, followee)
    if numbers then return bucket, numbers end
  end
  buckets = buckets_now()
  local bucket = bucket_of(followee, buckets)
  return bucket, redis.call('HGET', bucket, followee)
end

local function one_list_more()
  local buckets = buckets_now()
  if redis.call('HINCRBY', TALLIES, 'lists', 1) <= buckets * BUCKET then return end
  redis.call('HSET', TALLIES, 'buckets', buckets + 1)
  local level = 1
  while level * 2 <= buckets do level = level * 2 end
  local split = key(FEW_FOLLOWERS, buckets - level)
  local lists = redis.call('HGETALL', split)
  -- Made anew: a hash that outgrew its packed form would keep the other one.
  redis.call('DEL', split)
  for i = 1, #lists, 2 do redis.call('HSET', bucket_of(lists[i], buckets + 1), lists[i], lists[i + 1]) end
end

local function one_list_less(bucket, followee)
  redis.call('HDEL', bucket, followee)
  redis.call('HINCRBY', TALLIES, 'lists', -1)
end

-- The number of a follower of this shard, in three bytes; it has one for good from the first time on. nil: there are
-- no more.
local function number_of(follower)
  local number = redis.call('HGET', key(EDGES, follower), NUMBER)
  if not number then
    if tonumber(redis.call('HGET', TALLIES, 'numbers') or 0) >= LAST_NUMBER then return nil end
    number = redis.call('HINCRBY', TALLIES, 'numbers', 1)
    redis.call('HSET', key(EDGES, follower), NUMBER, number)
    redis.call('HSET', key(NAMES, math.floor(number / 100)), number % 100, follower)
  end
  return struct.pack('>I3', tonumber(number))
end

local function names_of(numbers)
  local names = {}
  for i = 1, #numbers, 3 do
    local number = struct.unpack('>I3', numbers, i)
    names[#names + 1] = redis.call('HGET', key(NAMES, math.floor(number / 100)), number % 100)
  end
  return names
end

local function position_of(follower, followee) return redis.call('HGET', key(EDGES, follower), followee) end

-- The greatest position among the followers; false if there are none.
local function followers_last(followee)
  local last = redis.call('ZREVRANGE', key(FOLLOWERS, followee), 0, 0, 'WITHSCORES')[2]
  if last then return last end
  local _, numbers = few_followers(followee)
  return numbers and position_of(names_of(numbers:sub(-3))[1], followee)
end

-- Adds a follower, which is not there, with the greatest position. Returns how many there are now.
local function followers_add(followee, follower, position)
  local many = key(FOLLOWERS, followee)
  if redis.call('EXISTS', many) == 0 then
    local bucket, numbers = few_followers(followee)
    local number = #(numbers or '') < 3 * FEW and number_of(follower)
    if number then
      redis.call('HSET', bucket, followee, (numbers or '') .. number)
      if not numbers then one_list_more() end
      return #(numbers or '') / 3 + 1
    end
    if numbers then
      for _, name in ipairs(names_of(numbers)) do redis.call('ZADD', many, position_of(name, followee), name) end
      one_list_less(bucket, followee)
    end
  end
  redis.call('ZADD', many, position, follower)
  return redis.call('ZCARD', many)
end

local function followers_count(followee)
  local many = redis.call('ZCARD', key(FOLLOWERS, followee))
  if many > 0 then return many end
  local _, numbers = few_followers(followee)
  return #(numbers or '') / 3
end

local function followers_remove(followee, follower)
  if redis.call('ZREM', key(FOLLOWERS, followee), follower) == 1 then return end
  local bucket, numbers = few_followers(followee)
  if not numbers then return end
  local number, rest = number_of(follower), {}
  for i = 1, #numbers, 3 do
    if numbers:sub(i, i + 2) ~= number then rest[#rest + 1] = numbers:sub(i, i + 2) end
  end
  if #rest > 0 then
    redis.call('HSET', bucket, followee, table.concat(rest))
  else
    one_list_less(bucket, followee)
  end
end

-- How many an entity follows.
local function edges_count(entity)
  local count = redis.call('HLEN', key(EDGES, entity))
  for _, value in ipairs(redis.call('HMGET', key(EDGES, entity), GENERATION, NUMBER, SHARDS, MODE)) do
    if value then count = count - 1 end
  end
  return count
end

-- Up to `count` followers beyond a position ('-inf' at first), oldest first, and whether they are many. Few have no
-- positions here, and are given whole.
local function followers_after(followee, position, count)
  if position == '-inf' then
    local _, numbers = few_followers(followee)
    if numbers then return names_of(numbers), false end
  end
  return redis.call('ZRANGEBYSCORE', key(FOLLOWERS, followee), '(' .. position, '+inf', 'LIMIT', 0, count), true
end

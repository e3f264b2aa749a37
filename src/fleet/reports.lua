#!lua
-- Reports of one replica about one model: what `reports.rs` says, as one step that nobody comes between.
--
-- KEYS  1 model (hash)  2 what this replica was answered last (hash)  3 how many are on each shelf (hash)
--       4… shelves (hash: a prediction's key to what is known of it, a report's mark to nothing)
-- ARGV  1 the batch (JSON): its number, how many may be remembered, for how many milliseconds each shelf lasts, and
--       for each report: its shelf, key, mark, join, value, at, expected, and what its replica knew, as it is kept
local MADE, HOUR, DAYS = 'parhelion 1', 3600, 30 * 86400
local model, heard, held = KEYS[1], KEYS[2], KEYS[3]
local batch, call = cjson.decode(ARGV[1]), redis.call

local made = call('HGET', model, 'made')
if made and made ~= MADE then
    return redis.error_reply('FOREIGN ' .. made)
elseif not made then
    call('HSET', model, 'made', MADE)
end
local last = call('HMGET', heard, 'number', 'answer')
if last[1] == batch.number then return last[2] end

local time = call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local all, counts, shelves = 0, {}, call('HGETALL', held)
for place = 1, #shelves, 2 do
    local count, till = string.match(shelves[place + 1], '^(%d+) (%d+)$')
    if not till or tonumber(till) < now then
        call('HDEL', held, shelves[place])
    else
        counts[shelves[place]] = tonumber(count)
        all = all + tonumber(count)
    end
end

-- Values are as their replica wrote them, but for sums.
local function join(how, before, value, at)
    local known, then_ = string.match(before, '^(%S+) (%S+)')
    if how == 'sum' then
        return string.format('%.17g', known + value), tonumber(at) > tonumber(then_) and at or then_
    end
    local becomes = how == 'first' and tonumber(at) < tonumber(then_)
        or how == 'last' and tonumber(at) >= tonumber(then_)
        or how == 'max' and tonumber(value) > tonumber(known)
    if becomes then return value, at end
end

local function put(shelf, key, text)
    if call('HSET', shelf, key, text) == 1 then
        counts[shelf] = (counts[shelf] or 0) + 1
        all = all + 1
    end
end

local answers = {}
for index, one in ipairs(batch.claims) do
    local place, key, mark, how, value, at, expected, known = unpack(one)
    local shelf = KEYS[3 + place]
    local before = call('HGET', shelf, key)
    if mark ~= '' and call('HEXISTS', shelf, mark) == 1 then
        answers[index] = '!'
    elseif all >= batch.most and (not before or mark ~= '') then
        answers[index] = '#'
    else
        if not before and known ~= '' then
            before = known
            put(shelf, key, known)
        end
        if mark ~= '' then put(shelf, mark, '') end
        if before then
            local text = string.match(before, '%S+$')
            value, at = join(how, before, value, at)
            if value then put(shelf, key, value .. ' ' .. at .. ' ' .. text) end
        else
            put(shelf, key, value .. ' ' .. at .. ' ' .. expected)
        end
        answers[index] = before or '+'
    end
end
for place, lasts in ipairs(batch.lasts) do
    local shelf = KEYS[3 + place]
    if counts[shelf] then
        call('HSET', held, shelf, string.format('%.0f %.0f', counts[shelf], now + lasts))
        call('EXPIRE', shelf, math.ceil(lasts / 1000))
    end
end
call('EXPIRE', held, DAYS)
call('EXPIRE', model, DAYS)
local answer = table.concat(answers, '\n')
call('HSET', heard, 'number', batch.number, 'answer', answer)
call('EXPIRE', heard, HOUR)
return answer

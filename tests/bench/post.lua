-- Posts a text message as Twilio sends it, each with a MessageSid of its own.
-- Arguments: the Authorization header, two characters that name the run, a manner, how many channels, and maybe how many
-- requests a second. With channels, "-0", "-1", ... stands after the path, each in turn; with 0 of them nothing does.
--
-- Manners: "at-once" sends the header with every request, "never" with none, "challenged" with every second one: each
-- message comes without it first and then with it, but not always on the same connection, which wrk can't arrange.
-- With a rate it is an open loop: request n is due n/rate seconds after the first, whatever became of those before it.
-- One that found no free connection in time is sent as soon as there is one, and counted as late.
local ffi = require("ffi")
ffi.cdef[[
  typedef struct { long seconds; long nanoseconds; } mo_time;
  int clock_gettime(int clock, mo_time *time);
]]
local CLOCK_MONOTONIC = 1
local LATE_SECONDS = 0.1
local threads = {}

local function now()
  local time = ffi.new("mo_time")
  ffi.C.clock_gettime(CLOCK_MONOTONIC, time)
  return tonumber(time.seconds) + tonumber(time.nanoseconds) / 1e9
end

function setup(thread)
  thread:set("thread_number", #threads)
  table.insert(threads, thread)
end

function init(args)
  request_number, challenged = 0, 0
  authorized = { ["Content-Type"] = "application/x-www-form-urlencoded", ["Authorization"] = args[1],
    ["User-Agent"] = "TwilioProxy/1.1", ["Accept"] = "*/*", ["I-Twilio-Idempotency-Token"] = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee",
    ["X-Twilio-Signature"] = "RSOYDt4T1cUTdK1PDd93/VVr8B8=" }
  bare = {}
  for name, value in pairs(authorized) do
    bare[name] = name ~= "Authorization" and value or nil
  end
  run = args[2]
  manner = args[3]
  channels = tonumber(args[4])
  rate = tonumber(args[5])
  planned, sent, late, latest = 0, 0, 0, 0
  if rate then
    delay = wait_for_turn
  end
end

-- wrk asks a free connection how many milliseconds it is to wait before its next request.
function wait_for_turn()
  started_at = started_at or now()
  planned = planned + 1
  return math.max(0, math.floor((started_at + planned / rate - now()) * 1000))
end

local function note_lateness()
  sent = sent + 1
  local seconds = now() - (started_at + sent / rate)
  latest = math.max(latest, seconds)
  if seconds > LATE_SECONDS then
    late = late + 1
  end
end

-- Returns the headers of the next request, and the number of its message.
local function turn()
  request_number = request_number + 1
  if manner == "at-once" then
    return authorized, request_number
  end
  local number = manner == "never" and request_number or math.ceil(request_number / 2)
  if manner == "never" or request_number % 2 == 1 then
    challenged = challenged + 1
    return bare, number
  end
  return authorized, number
end

function request()
  local headers, number = turn()
  if started_at then
    note_lateness()
  end
  local sid = string.format("SM%s%02d%022d", run, thread_number, number)
  local sender = string.format("%%2B4477009%05d", number % 5000)
  local body = "SmsMessageSid=" .. sid .. "&NumMedia=0&ProfileName=Ada+Okafor&MessageType=text&SmsSid=" .. sid ..
    "&WaId=447700900123&SmsStatus=received&Body=Hello%2C+where+is+my+order+%234711%3F&To=whatsapp%3A%2B14155238886" ..
    "&NumSegments=1&ReferralNumMedia=0&MessageSid=" .. sid .. "&AccountSid=AC00000000000000000000000000000007" ..
    "&ChannelMetadata=%7B%22type%22%3A%22whatsapp%22%2C%22data%22%3A%7B%22context%22%3A%7B%22ProfileName%22%3A%22Ada+Okafor%22%2C%22WaId%22%3A%22447700900123%22%7D%7D%7D" ..
    "&From=whatsapp%3A" .. sender .. "&ApiVersion=2010-04-01"
  local path = channels > 0 and wrk.path .. "-" .. number % channels or nil
  return wrk.format("POST", path, headers, body)
end

local function sum(name)
  local total = 0
  for _, thread in ipairs(threads) do
    total = total + (thread:get(name) or 0)
  end
  return total
end

done = function(summary, latency, requests)
  local errors, seconds = summary.errors, summary.duration / 1e6
  local due = (tonumber(threads[1]:get("rate")) or 0) * #threads * seconds
  io.write(string.format('JSON {"requests": %d, "seconds": %f, "refused": %d, "broken": %d, "timed_out": %d,' ..
    ' "p50_ms": %f, "p99_ms": %f, "p99_5_ms": %f, "max_ms": %f, "late": %d, "latest_seconds": %f, "omitted": %d,' ..
    ' "challenged": %d}\n',
    summary.requests, seconds, errors.status, errors.connect + errors.read + errors.write, errors.timeout,
    latency:percentile(50) / 1000, latency:percentile(99) / 1000, latency:percentile(99.5) / 1000,
    latency.max / 1000, sum("late"), sum("latest"), math.max(0, due - sum("sent")), sum("challenged")))
end

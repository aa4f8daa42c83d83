-- One connection for each thread, so that what is sent and what is answered follow each other.
local ffi = require("ffi")
ffi.cdef[[
  typedef struct { long seconds; long nanoseconds; } benchmark_time;
  int clock_gettime(int clock, benchmark_time *time);
]]
local MONOTONIC = 1
local time = ffi.new("benchmark_time")

local function now()
  ffi.C.clock_gettime(MONOTONIC, time)
  return tonumber(time.seconds) * 1e6 + tonumber(time.nanoseconds) / 1e3
end

local threads = {}

function setup(thread)
  thread:set("place", #threads)
  table.insert(threads, thread)
end

function init(arguments)
  slow_path = arguments[1]
  -- Clients begin at different places of the cycle, so that slow requests do not come all at once.
  sent = place
  began = 0
  was_slow = false
  quick = {}
end

function request()
  sent = sent + 1
  was_slow = slow_path ~= nil and sent % 10 == 0
  began = now()
  return wrk.format("GET", was_slow and slow_path or "/")
end

function response()
  if not was_slow then
    quick[#quick + 1] = now() - began
  end
end

function done(summary)
  local all = {}
  for _, thread in ipairs(threads) do
    for _, value in ipairs(thread:get("quick")) do
      all[#all + 1] = value
    end
  end
  table.sort(all)
  if #all > 0 then
    print(string.format("told quick %d", #all))
    print(string.format("told p50 %.1f", all[math.ceil(#all * 0.50)]))
    print(string.format("told p99 %.1f", all[math.ceil(#all * 0.99)]))
  end
end

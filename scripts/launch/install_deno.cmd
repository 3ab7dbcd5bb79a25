@echo off
rem Installs the Deno that Lorikeet is tested with from npm: for lorikeet.cmd, whose variables say which and where.
rem It works in a folder of its own and ends with one move, so that it leaves nothing half there.
set "PACKAGE=win32-x64"
if /i "%PROCESSOR_ARCHITECTURE%"=="ARM64" set "PACKAGE=win32-arm64"
set "NEED=Lorikeet needs Deno %LORIKEET_MINIMUM% or newer, and the PATH has none"

set "NPM="
for %%n in (npm.cmd) do set "NPM=%%~$PATH:n"
if not defined NPM (
  echo error: %NEED%, and no npm to install it with: put deno or npm on the PATH.>&2
  exit /b 1
)
set "SCRATCH=%LORIKEET_ROOT%.deno\install.%RANDOM%%RANDOM%"
mkdir "%SCRATCH%" 2>nul
if not exist "%SCRATCH%\" (
  echo error: %NEED%, and "%LORIKEET_ROOT%.deno" can't be written to install it: put deno on the PATH.>&2
  exit /b 1
)

echo Installing Deno %LORIKEET_PINNED% from npm (one time)...>&2
pushd "%SCRATCH%"
rem A package.json makes the folder npm's own project.
echo {}>package.json
call "%NPM%" install --global=false --ignore-scripts --no-save --no-package-lock --no-audit --no-fund "@deno/%PACKAGE%@%LORIKEET_PINNED%" >log 2>&1
popd
set "INSTALLED=%SCRATCH%\node_modules\@deno\%PACKAGE%\deno.exe"
if not exist "%INSTALLED%" (
  type "%SCRATCH%\log" >&2
  rmdir /s /q "%SCRATCH%"
  echo error: %NEED%, and npm could not install @deno/%PACKAGE%@%LORIKEET_PINNED%.>&2
  exit /b 1
)
"%INSTALLED%" --version >nul 2>nul
if errorlevel 1 (
  rmdir /s /q "%SCRATCH%"
  echo error: %NEED%, and the @deno/%PACKAGE%@%LORIKEET_PINNED% that npm installed does not run on this system.>&2
  exit /b 1
)
mkdir "%LORIKEET_ROOT%.deno\%LORIKEET_PINNED%" 2>nul
move /y "%INSTALLED%" "%LORIKEET_DENO%" >nul
rmdir /s /q "%SCRATCH%"
if not exist "%LORIKEET_DENO%" exit /b 1
exit /b 0
